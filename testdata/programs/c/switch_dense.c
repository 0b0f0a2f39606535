// A dense switch: one jump table, some cases sharing a target.
#include "../program.h"
#include <stdio.h>
NOINLINE int classify(unsigned kind, int x) {
    switch (kind) {
    case 0: return x + 1;
    case 1: return x * 3;
    case 2: puts("two"); return x - 7;
    case 3: case 4: return x ^ 0x55;
    case 5: return x << 2;
    case 6: puts("six"); /* fallthrough */
    case 7: return x / 3;
    case 8: return -x;
    case 9: return x % 5;
    default: return 1000 + (int)kind;
    }
}
PROGRAM {
    for (unsigned kind = 0; kind < 12; kind++) printf("%u %d\n", kind, classify(kind, 41));
    printf("%d\n", classify(0xffffffffu, 0));
    return 0;
}
