"""Answers to the questions of the tests, computed without any of this project's
code, with exact sums.

    python3 answers.py QUESTION FOLDER

QUESTION is summary, air-quality or rooms; prints JSON.
"""
import csv
import datetime
import glob
import json
import math
import os
import sys
import zoneinfo

KINDS = ((6, "pm10"), (9, "pm2.5"))
LONDON = zoneinfo.ZoneInfo("Europe/London")
UTC = datetime.timezone.utc
LEVEL = {"pm2.5": 15.0, "pm10": 45.0}
PARTS = {"pm2.5": 10, "pm10": 1}
STEPS = {
    "pm2.5": [(0, 90), (91, 354), (355, 554), (555, 1254), (1255, 2254), (2255, 3254)],
    "pm10": [(0, 54), (55, 154), (155, 254), (255, 354), (355, 424), (425, 604)],
}
INDEX = [(0, 50), (51, 100), (101, 150), (151, 200), (201, 300), (301, 500)]
WORDS = ["good", "moderate", "unhealthy for sensitive groups", "unhealthy", "very unhealthy",
         "hazardous"]


def citizen(folder):
    """Yields device, location, kind, stamp, value of every good reading."""
    for path in sorted(glob.glob(os.path.join(folder, "luftdaten/*/*.csv"))):
        with open(path, encoding="utf-8") as file:
            next(file)
            for line in file:
                fields = line.rstrip("\n").split(";")
                if len(fields) < 6 or not fields[5]:
                    continue
                for column, kind in KINDS:
                    if column < len(fields) and fields[column] != "":
                        yield fields[0], "aberdeen/" + fields[2], kind, fields[5], float(fields[column])


def quantile(ordered, q):
    rank = q * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def described(values):
    count = len(values)
    total = math.fsum(values)
    mean = total / count
    spread = math.fsum((v - mean) ** 2 for v in values)
    ordered = sorted(values)
    return {
        "count": count, "min": float(ordered[0]), "max": float(ordered[-1]), "sum": float(total),
        "mean": float(mean), "sd": math.sqrt(spread / (count - 1)),
        "p50": quantile(ordered, 0.5), "p95": quantile(ordered, 0.95),
        "p99": quantile(ordered, 0.99),
    }


def summary(folder):
    groups = {}
    for device, location, kind, _, value in citizen(folder):
        groups.setdefault((device, location, kind), []).append(value)
    return [dict(device=d, location=l, kind=k, **described(v)) for (d, l, k), v in groups.items()]


def rooms(folder):
    groups = {}
    for path in glob.glob(os.path.join(folder, "keti_smart_building/*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for kind in ("co2", "humidity", "light", "pir", "temperature"):
                    groups.setdefault(kind, []).append(float(row[kind]))
    return [dict(kind=kind, **described(values)) for kind, values in groups.items()]


def index_of(kind, mean):
    parts = max(math.floor(mean * PARTS[kind] + 1e-6), 0)
    at = next((i for i, step in enumerate(STEPS[kind]) if parts <= step[1]), 5)
    (low, high), (first, last) = STEPS[kind][at], INDEX[at]
    return math.floor((last - first) / (high - low) * (parts - low) + first + 0.5)


def word(index):
    return next((w for w, (_, last) in zip(WORDS, INDEX) if index <= last), WORDS[-1])


def hours_of(day):
    begin = datetime.datetime.combine(day, datetime.time(), LONDON)
    end = datetime.datetime.combine(day + datetime.timedelta(days=1), datetime.time(), LONDON)
    return (end.astimezone(UTC) - begin.astimezone(UTC)) // datetime.timedelta(hours=1)


def local(stamp, known={}):
    """Day and hour there: London's offsets are whole hours, so that an hour of
    UTC is an hour there."""
    hour = stamp[:13]
    if hour not in known:
        utc = datetime.datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
        known[hour] = utc.astimezone(LONDON).date()
    return known[hour], hour


def air_quality(folder):
    hours = {}
    for _, location, kind, stamp, value in citizen(folder):
        if not 0 <= value <= 998.9:
            continue
        day, hour = local(stamp)
        values, quarters = hours.setdefault((location, kind), {}).setdefault(
            day, {}).setdefault(hour, ([], set()))
        values.append(value)
        quarters.add(int(stamp[14:16]) // 15)
    means, seen = {}, {}
    for (location, kind), days in hours.items():
        for day, parts in days.items():
            good = [math.fsum(v) / len(v) for v, quarters in parts.values() if len(quarters) >= 3]
            seen.setdefault((location, kind), []).append(day)
            if len(good) * 4 >= hours_of(day) * 3:
                means.setdefault(location, {}).setdefault(day, {})[kind] = math.fsum(good) / len(good)
    rows = []
    for location, days in means.items():
        for day, mean in sorted(days.items()):
            indices = {kind: index_of(kind, mean[kind]) for kind in ("pm2.5", "pm10") if kind in mean}
            worst = max(indices, key=lambda kind: indices[kind])
            rows.append(dict(location=location, day=str(day), aqi=indices[worst], by=worst,
                             category=word(indices[worst]), **mean))
    sums = []
    for location in sorted({place for place, _ in seen}):
        row = {"location": location}
        worst = []
        for kind in ("pm2.5", "pm10"):
            if (location, kind) not in seen:
                continue
            found = [m[kind] for m in means.get(location, {}).values() if kind in m]
            row[kind + "-days"] = len(found)
            row[kind + "-incomplete"] = len(seen[location, kind]) - len(found)
            row[kind + "-above-who"] = sum(m > LEVEL[kind] for m in found)
            worst += [index_of(kind, m) for m in found]
        if worst:
            row["aqi-max"] = max(worst)
        sums.append(row)
    return {"days": rows, "locations": sums}


question = {"summary": summary, "air-quality": air_quality, "rooms": rooms}[sys.argv[1]]
json.dump(question(sys.argv[2]), sys.stdout)
