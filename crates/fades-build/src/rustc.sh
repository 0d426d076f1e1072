#!/bin/sh
# cargo runs this in front of rustc: `rustc.sh RUSTC ARGUMENTS`.
#
# Symbols, and with them the order of functions in an image, depend on what cargo gives
# as `-C metadata`, which depends on where a package lies. Here it is what the package is.
features=
for word; do
    case $word in feature=*) features="$features,$word" ;; esac
done
for word; do
    shift
    case $word in
        metadata=*) word="metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION-$CARGO_CRATE_NAME$features" ;;
    esac
    set -- "$@" "$word"
done
exec "$@"
