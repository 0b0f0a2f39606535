"""Evaluation workload: CPython's own regression tests, one process per module, without timings.

    BINARY modules.py

One line per module: name, outcome, tests run, and unittest's own counts. Status 1 if a module did not succeed.
"""
import re
import subprocess
import sys

# None of these reads the network, the clock closely, or runs for longer than some seconds.
MODULES = """
abc array ast base64 bigmem binascii binop bisect bool builtin bytes calendar charmapcodec class cmath codeccallbacks
code collections complex contextlib copy csv dataclasses decorators defaultdict deque descr dict dictviews
difflib enum enumerate exception_group exceptions extcall float format fractions fstring functools generators genexps
getopt grammar hash heapq html index int isinstance iter itertools json keywordonlyarg list listcomps long
marshal math memoryio memoryview metaclass minidom numeric_tower opcodes operator ordered_dict patma pickle pow pprint
property random range raise re reprlib richcmp scope set setcomps slice sort statistics string struct sys_setprofile
super syntax textwrap tokenize tuple types typing unicode unicodedata unpack unpack_ex userdict weakref with yield_from zipimport zlib
""".split()


def outcome(module):
    """Status and unittest's summary of one test module, run by the interpreter that runs this file."""
    command = [sys.executable, "-X", "faulthandler", "-m", "unittest", f"test.test_{module}"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=900)
    except subprocess.TimeoutExpired:
        return False, "timeout"
    tests = re.search(r"^Ran (\d+) tests? in ", done.stderr, re.M)
    summary = re.search(r"^(OK|FAILED)( \(.*\))?$", done.stderr, re.M)
    if not tests or not summary or int(tests[1]) == 0:
        return False, f"no tests ran, status {done.returncode}"
    return done.returncode == 0, f"{summary[0]}, {tests[1]} tests"


def main():
    failed = []
    for module in MODULES:
        good, text = outcome(module)
        print(f"test_{module}: {text}", flush=True)
        if not good:
            failed.append(module)
    print(f"{len(MODULES)} modules, {len(failed)} failed: {' '.join(failed)}")
    return 1 if failed else 0


sys.exit(main())
