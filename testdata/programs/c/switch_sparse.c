// A sparse switch: compare trees, with a small table inside.
#include "../program.h"
#include <stdio.h>
NOINLINE const char *name(int code) {
    switch (code) {
    case -1000: return "minus thousand";
    case -3: return "minus three";
    case 0: return "zero";
    case 100: return "hundred"; case 101: return "hundred and one"; case 102: return "hundred and two";
    case 103: return "hundred and three"; case 104: return "hundred and four"; case 105: return "hundred and five";
    case 70000: return "seventy thousand";
    case 0x7fffffff: return "max";
    default: return "other";
    }
}
PROGRAM {
    static const int codes[] = {-1000, -4, -3, 0, 1, 99, 100, 101, 102, 103, 104, 105, 106, 70000, 0x7fffffff, 12345};
    for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) printf("%d %s\n", codes[i], name(codes[i]));
    return 0;
}
