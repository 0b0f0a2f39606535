// Values kept in callee-saved registers across an unwind: a wrong row of the unwind table shows in the sums.
//@ build: tag=O2
//@ build: tag=frame-pointer
//@ flags: -O2 -fno-omit-frame-pointer
//@ build: tag=O0
//@ flags: -O0
#include "../program.h"
#include <cstdio>
NOINLINE long leaf(long a, long b, long c, long d, long e, long f, long g, long h) { if (((a ^ b) + c) % 5 == 0) throw a + h; return a + b * c - d + e * f + g - h; }
NOINLINE long many(long a, long b, long c, long d, long e, long f) {
    long v1 = a * 3, v2 = b * 5, v3 = c * 7, v4 = d * 11, v5 = e * 13, v6 = f * 17, total = 0;
    for (long i = 0; i < 12; i++) {
        try { total += leaf(v1 + i, v2, v3, v4, v5, v6, i, a); v1 += 2; v3 -= 1; }
        catch (long v) { total += v * 1000 + v1 + v2 + v3 + v4 + v5 + v6; v2 += 3; v5 ^= v; }
    }
    return total + v1 * 2 + v2 * 3 + v3 * 5 + v4 * 7 + v5 * 11 + v6 * 13;
}
NOINLINE long dynamic(long n) {
    char *p = (char *)__builtin_alloca((unsigned long)n * 8 + 16);
    p[n] = (char)n;
    long k = n * 9;
    try { k += leaf(n, 2, 3, 4, 5, 6, 7, 8); } catch (long v) { k += v + p[n]; }
    return k + p[n];
}
PROGRAM { for (long i = 0; i < 8; i++) std::printf("%ld %ld\n", many(i, i + 1, i + 2, i + 3, i + 4, i + 5), dynamic(i)); return 0; }
