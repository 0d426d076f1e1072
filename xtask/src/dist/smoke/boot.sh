# boot.sh ROOT CGROUP: has systemd start the Debian in ROOT, in namespaces of its own and
# in a control group of its own. Says "up" when systemd is about to begin. Whoever ends
# this process ends everything in it, and what was mounted goes with it.
set -eu
mkdir -p "$2"
echo $$ > "$2/cgroup.procs"
exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child --propagation private \
    sh -euc '
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
# The settings of this host are not those of that Debian.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sys sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t tmpfs -o mode=1777 shm dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s /proc/self/fd dev/fd
if [ -e /dev/kvm ]; then mknod -m 600 dev/kvm c 10 232; fi
# Not chroot: who is in one may make no namespaces of users, which the node wants to.
pivot_root . .
umount -l .
hostname fades
echo up
exec env -i container=fades /usr/bin/setpriv --inh-caps=-all \
    --bounding-set=-sys_module,-sys_rawio,-sys_time,-sys_boot,-syslog \
    /usr/lib/systemd/systemd --show-status=no --log-target=null \
    < /dev/null > /dev/null 2>&1
' sh "$1"
