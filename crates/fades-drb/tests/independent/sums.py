"""Count, sum, least, greatest, oldest and newest of each series of a data set,
computed without any of this project's code.

    python3 sums.py DATASET FOLDER

prints one JSON object a line. Lost readings are counted by reason in a last line.
"""
import csv
import datetime
import glob
import json
import math
import os
import sys
import zoneinfo

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
series = {}
lost = {}


def nanoseconds(when):
    delta = when.astimezone(datetime.timezone.utc) - EPOCH
    return ((delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000


def add(device, location, kind, when, value):
    entry = series.setdefault((device, location, kind), ([], [when, when]))
    entry[0].append(value)
    if when < entry[1][0]:
        entry[1][0] = when
    if when > entry[1][1]:
        entry[1][1] = when


def lose(reason, n=1):
    lost[reason] = lost.get(reason, 0) + n


def citizen(folder):
    for path in sorted(glob.glob(os.path.join(folder, "luftdaten/*/*.csv"))):
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        assert lines[0].split(";")[5:10:4] == ["timestamp", "P2"]
        for line in lines[1:]:
            if not line:
                continue
            fields = line.split(";")
            if len(fields) < 6:
                lose("truncated", 2)
                continue
            stamp = fields[5]
            when = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S")
            when = nanoseconds(when.replace(tzinfo=datetime.timezone.utc))
            for column, kind in ((6, "pm10"), (9, "pm2.5")):
                if column >= len(fields):
                    lose("truncated")
                elif fields[column] == "":
                    lose("empty")
                else:
                    add(fields[0], "aberdeen/" + fields[2], kind, when, float(fields[column]))


def rooms(folder):
    zone = zoneinfo.ZoneInfo("America/Los_Angeles")
    for path in sorted(glob.glob(os.path.join(folder, "keti_smart_building/*.csv"))):
        room = os.path.basename(path)[:-4]
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                when = datetime.datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S")
                when = nanoseconds(when.replace(tzinfo=zone))
                for kind in ("co2", "humidity", "light", "pir", "temperature"):
                    add(room, "sutardja-dai/" + room, kind, when, float(row[kind]))


def station(folder):
    import lzma

    kinds = {"CO(GT)": "co", "C6H6(GT)": "benzene", "NOx(GT)": "nox", "NO2(GT)": "no2",
             "T": "temperature", "RH": "humidity"}
    zone = zoneinfo.ZoneInfo("Europe/Rome")
    with lzma.open(os.path.join(folder, "AirQualityUCI.csv.xz"), "rt", newline="") as file:
        for row in csv.DictReader(file, delimiter=";"):
            if not row["Date"]:
                continue
            when = datetime.datetime.strptime(row["Date"] + row["Time"], "%d/%m/%Y%H.%M.%S")
            when = nanoseconds(when.replace(tzinfo=zone))
            for column, kind in kinds.items():
                value = float(row[column].replace(",", "."))
                if value != -200:
                    add("station", "italy/roadside", kind, when, value)


def library(folder):
    paths = glob.glob(os.path.join(folder, "ulb_library/R[0-9].txt"))
    paths.append(os.path.join(folder, "ulb_library/library2_readings.txt"))
    for path in sorted(paths):
        name = os.path.basename(path)[:-4]
        with open(path, "rb") as file:
            for line in file.read().split(b"\n"):
                line = line.strip(b"\r")
                if not line:
                    continue
                fields = line.split(b" ")
                for column, kind in ((2, "sequence"), (4, "voltage"), (5, "humidity"),
                                     (6, "temperature"), (7, "par")):
                    text = fields[column].replace(b"\xa0", b"").replace(b",", b".")
                    add("mote-" + fields[1].decode(), "ulb/" + name, kind,
                        int(fields[0]) * 1_000_000, float(text))


def office(folder):
    for path in sorted(glob.glob(os.path.join(folder, "occ/*.txt"))):
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            next(rows)
            for row in rows:
                when = datetime.datetime.strptime(row[1], "%Y-%m-%d %H:%M:%S")
                when = nanoseconds(when.replace(tzinfo=datetime.timezone.utc))
                for column, kind in ((2, "temperature"), (3, "humidity"), (4, "light"),
                                     (5, "co2"), (7, "occupancy")):
                    add("office", "", kind, when, float(row[column]))


{"citizen": citizen, "rooms": rooms, "station": station, "library": library,
 "office": office}[sys.argv[1]](sys.argv[2])
for (device, location, kind), (values, (oldest, newest)) in sorted(series.items()):
    print(json.dumps({
        "device": device, "location": location, "kind": kind, "count": len(values),
        "sum": math.fsum(values), "min": min(values), "max": max(values),
        "oldest": oldest, "newest": newest,
    }))
print(json.dumps({"lost": lost}))
