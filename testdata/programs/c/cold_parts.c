// Functions whose cold parts the compiler moved away (NAME.cold): jumps in both directions, tables into both.
//@ flags: -O2
//@ profile: instrumented
//@ gdb: complain
#include "../program.h"
#include <stdio.h>
#include <stdlib.h>
__attribute__((cold, noinline)) void complain(const char *s, int n) { printf("complaint: %s %d\n", s, n); }
NOINLINE int work(int n) {
    int r = n * 2;
    if (__builtin_expect(n < 0, 0)) { complain("negative", n); r = -n; if (n < -5) { complain("very", n); r += 3; } }
    for (int i = 0; i < n; i++) { r += i; if (__builtin_expect(r == 31, 0)) { complain("r is 31", i); r++; } }
    switch (n) { case 0: complain("zero", r); break; case 1: r = 7; break; case 2: complain("two", r); r = 8; break; case 3: r = 9; break; case 4: complain("four", r); break; case 5: r ^= 5; break; case 6: complain("six", 6); return -6; }
    if (__builtin_expect(r > 1000, 0)) { complain("large", r); abort(); }
    return r;
}
__attribute__((cold)) NOINLINE static int rarely(int x) { complain("rarely", x); return x + 1; }
NOINLINE int hot(int x) { return x == 77 ? rarely(x) : x * 3; }
PROGRAM { for (int i = -8; i < 12; i++) printf("%d %d\n", work(i), hot(i + 70)); return 0; }
