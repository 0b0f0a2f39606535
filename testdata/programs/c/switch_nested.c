// Tables inside the targets of tables.
#include "../program.h"
#include <stdio.h>
NOINLINE int nested(unsigned a, unsigned b, unsigned c) {
    int r = 1;
    switch (a) {
    case 0:
        switch (b) {
        case 0: r = 3; break;
        case 1: r = 5; break;
        case 2: switch (c) { case 0: r = 7; break; case 1: puts("c1"); r = 11; break; case 2: r = 13; break; case 3: r = 17; break; case 4: puts("c4"); break; default: r = 19; }
            break;
        case 3: puts("b3"); break;
        case 4: r = 23; break;
        }
        break;
    case 1: r = (int)b; break;
    case 2:
        switch (c) { case 0: r = 29; break; case 1: puts("2c1"); break; case 2: r = 31; break; case 3: r = 37; /* fallthrough */ case 4: r += 41; break; case 5: r = 43; break; }
        break;
    case 3: puts("a3"); break;
    case 4: r = 47; break;
    }
    return r;
}
PROGRAM {
    int sum = 0;
    for (unsigned a = 0; a < 6; a++)
        for (unsigned b = 0; b < 6; b++)
            for (unsigned c = 0; c < 7; c++) sum = sum * 31 + nested(a, b, c);
    printf("%d\n", sum);
    return 0;
}
