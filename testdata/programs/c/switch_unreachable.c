// A switch without a default: the table has no guard, holes lead nowhere, perhaps past the end of the function.
//@ kept: after_holes its entry and the padding in front of it, where holes of the table lead, both count as values
#include "../program.h"
#include <stdio.h>
#include <stdlib.h>
NOINLINE int holes(unsigned op, int x) {
    switch (op) {
    case 0: return x + 3;
    case 1: printf("one %d\n", x); return 2;
    case 2: return x * 5;
    case 4: printf("four %d\n", x); return 1;
    case 5: return x >> 1;
    case 9: return x | 64;
    case 10: printf("ten\n"); exit(x);
    }
    __builtin_unreachable();
}
NOINLINE int after_holes(int x) { return x * 2 + 1; }
NOINLINE void noreturn_default(unsigned op) {
    switch (op) {
    case 0: puts("zero"); break;
    case 1: puts("one"); return;
    case 2: puts("two"); break;
    case 3: puts("three"); break;
    case 4: puts("four"); return;
    default: abort();
    }
    puts("end");
}
NOINLINE int masked(unsigned op) {
    switch (op & 7) { case 0: return 10; case 1: puts("m1"); return 21; case 2: return 32; case 3: puts("m3"); return 43; case 4: return 54; case 5: puts("m5"); return 65; case 6: return 76; case 7: return 87; }
    __builtin_unreachable();
}
PROGRAM {
    static const unsigned ops[] = {0, 1, 2, 4, 5, 9};
    for (unsigned i = 0; i < 6; i++) printf("%d\n", after_holes(holes(ops[i], 20)));
    for (unsigned i = 0; i < 5; i++) noreturn_default(i);
    for (unsigned i = 0; i < 20; i++) printf("%d\n", masked(i));
    return 0;
}
