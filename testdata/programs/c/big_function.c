// A function of some 200 KB: branches must be long, and become longer when blocks are far apart.
//@ flags: -O1
#include "../program.h"
#include <stdio.h>
static volatile unsigned table[256];
#define S1(n) x = x * 1664525u + 1013904223u + n; if (x & (1u << ((n) & 15))) { table[x >> 24] += n; x ^= table[(x >> 16) & 255]; } else if (x % 7 == 3) goto out##n; else x += 3; out##n:;
#define S4(n) S1(n##0) S1(n##1) S1(n##2) S1(n##3)
#define S16(n) S4(n##0) S4(n##1) S4(n##2) S4(n##3)
#define S64(n) S16(n##0) S16(n##1) S16(n##2) S16(n##3)
#define S256(n) S64(n##0) S64(n##1) S64(n##2) S64(n##3)
NOINLINE unsigned big(unsigned x, int rounds) {
    for (int i = 0; i < rounds; i++) {
        if (x == 17) goto end;
        S256(1) S256(2) S256(3)
        if (x == 19) break;
    }
end:
    return x;
}
PROGRAM {
    printf("%u %u\n", big(1, 10), big(17, 10));
    return 0;
}
