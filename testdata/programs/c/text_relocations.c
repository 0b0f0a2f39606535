// DT_TEXTREL: absolute addresses in the code of a file that is loaded anywhere; the dynamic linker writes them there.
//@ build: kinds=pie,so linkers=ld,lld
//@ flags: -mcmodel=large -fno-pic -Wl,-z,notext
//@ build: tag=hidden kinds=pie,so linkers=ld,lld
//@ flags: -mcmodel=large -fno-pic -fvisibility=hidden -fno-asynchronous-unwind-tables -Wl,-z,notext
#include "../program.h"
#include <stdio.h>
typedef int (*function)(int);
static int numbers[] = {4, 5, 6};
NOINLINE static int small(int x) { return x + 1; }
NOINLINE static int large(int x) { return x * 2; }
NOINLINE static function pick(int k) { return k & 1 ? small : large; }
// These hold no address, and may move.
NOINLINE static int gcd(int a, int b) { while (b) { int rest = a % b; a = b; b = rest; } return a; }
NOINLINE static int bits(unsigned x) { int n = 0; for (; x; x &= x - 1) n++; return n; }
NOINLINE static int choose(int k) {
    switch (k) { case 0: return numbers[2]; case 1: return pick(k)(7); case 2: puts("two"); return 2; case 3: return numbers[0]; case 4: return 9; case 5: return printf("five\n"); }
    return -1;
}
PROGRAM {
    int sum = 0;
    for (int i = 0; i < 8; i++) sum = sum * 7 % 9973 + choose(i) + pick(i)(i) + gcd(84, i * 6) + bits(i * 77);
    printf("%d\n", sum);
    return 0;
}
