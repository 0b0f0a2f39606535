// -mharden-sls=all: a breakpoint behind each return and indirect jump, which nothing reaches.
//@ flags: -mharden-sls=all
#include "../program.h"
#include <stdio.h>
NOINLINE static int classify(int x) {
    if (x < 0) return -1;
    switch (x) { case 0: return 3; case 1: puts("one"); return 1; case 2: return 77; case 3: puts("three"); return 9; case 4: return x * 5; case 5: return 8; }
    return x % 7;
}
NOINLINE static int loop(int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) { if (i % 5 == 4) continue; if (sum > 500) return i; sum += classify(i - 2) * i; }
    return -sum;
}
static int (*volatile pointer)(int) = loop;
PROGRAM {
    for (int i = 0; i < 40; i += 7) printf("%d\n", pointer(i));
    return 0;
}
