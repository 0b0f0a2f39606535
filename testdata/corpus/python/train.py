"""Training workload: the interpreter's main loop, containers, text, exceptions. Prints the same lines on every run."""
import collections
import hashlib
import json
import re


def objects(count):
    class Point:
        __slots__ = ("x", "y")

        def __init__(self, x, y):
            self.x, self.y = x, y

        def __add__(self, other):
            return Point(self.x + other.x, self.y - other.y)

    total = Point(0, 0)
    for i in range(count):
        total = total + Point(i % 7, i % 5)
    return total.x, total.y


def text(count):
    words = [f"w{(i * 7919) % 503:03x}" for i in range(count)]
    joined = " ".join(words)
    counts = collections.Counter(re.findall(r"w([0-9a-f])\w+", joined))
    swapped = re.sub(r"w(\w)(\w)", r"\2\1", joined)
    return sorted(counts.items())[:3], hashlib.sha256(swapped.encode()).hexdigest()[:16]


def records(count):
    rows = [{"id": i, "name": f"row {i}", "tags": ["a", "b"] * (i % 3), "value": i / 8} for i in range(count)]
    again = json.loads(json.dumps(rows, sort_keys=True))
    assert again == rows
    again.sort(key=lambda row: (len(row["tags"]), -row["value"]))
    return again[0]["id"], again[-1]["id"]


def exceptions(count):
    caught = 0
    for i in range(count):
        try:
            try:
                if i % 3 == 0:
                    raise KeyError(i)
                if i % 5 == 0:
                    [][i]
            finally:
                caught += 1
        except LookupError as problem:
            caught += 2 if isinstance(problem, KeyError) else 3
    return caught


def generators(count):
    def fibonacci():
        a, b = 0, 1
        while True:
            yield a
            a, b = b, a + b

    sequence = fibonacci()
    return sum(next(sequence) % 1000 for _ in range(count)), len({x * x % 97 for x in range(count)})


def main():
    print("objects", objects(200_000))
    print("text", *text(60_000))
    print("records", *records(5_000))
    print("exceptions", exceptions(100_000))
    print("generators", *generators(10_000))


main()
