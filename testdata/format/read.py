"""What the Python reader finds, for tests that compare it with another one.

For each line of standard input, {"root", "cache", "get": [base64...], "scan": bool, "verify": bool}, it prints {"open":
outcome, "get": [outcome...], "scan": outcome, "rows": [[key, value]...], "verify": outcome,
"reads": how many reads the look-ups took}. An outcome is "ok", a value after "=", or an error's kind.
"""

import base64
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "clients" / "python"))
import syscache  # noqa: E402

KINDS = {
    syscache.NotFound: "not found",
    syscache.Missing: "missing",
    syscache.Stale: "stale",
    syscache.Corrupt: "corrupt",
    syscache.Untrusted: "untrusted",
    syscache.TooNew: "too new",
}


def text(data):
    return base64.b64encode(data).decode()


def attempt(call):
    try:
        return call()
    except Exception as error:  # whatever it is, it is an outcome
        return KINDS.get(type(error), repr(error))


def counted(pread=os.pread):
    def count(*arguments):
        count.reads += 1
        return pread(*arguments)

    count.reads = 0
    return count


os.pread = counted()


def ask(question):
    answer = {"get": [], "rows": []}

    def scan(reader):
        for key, value in reader.scan():
            answer["rows"].append([text(key), text(value)])
        return "ok"

    def run():
        with syscache.open(question["root"], question["cache"]) as reader:
            before = os.pread.reads
            for key in question["get"]:
                answer["get"].append(attempt(lambda: "=" + text(reader.get(base64.b64decode(key)))))
            answer["reads"] = os.pread.reads - before
            if question["scan"]:
                answer["scan"] = attempt(lambda: scan(reader))
        return "ok"

    def verify():
        with syscache.open(question["root"], question["cache"], allow_stale=True) as reader:
            reader.verify()
        return "ok"

    answer["open"] = attempt(run)
    if question["verify"]:
        answer["verify"] = attempt(verify)
    return answer


for line in sys.stdin:
    print(json.dumps(ask(json.loads(line))), flush=True)
