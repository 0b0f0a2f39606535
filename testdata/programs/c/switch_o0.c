// Unoptimized code: the index goes through the stack, the table address through several registers.
//@ flags: -O0
#include "../program.h"
#include <stdio.h>
static int step(int state, char c) {
    switch (state) {
    case 0: switch (c) { case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': return 1; case '+': case '-': return 2; default: return 5; }
    case 1: if (c >= '0' && c <= '9') return 1; return c == '.' ? 3 : 5;
    case 2: return c >= '0' && c <= '9' ? 1 : 5;
    case 3: return c >= '0' && c <= '9' ? 4 : 5;
    case 4: return c >= '0' && c <= '9' ? 4 : 5;
    case 5: return 5;
    default: return -1;
    }
}
PROGRAM {
    static const char *inputs[] = {"12", "+3.14", "-", "4.", "x", "7a", "-0.5"};
    for (int i = 0; i < 7; i++) {
        int state = 0;
        for (const char *p = inputs[i]; *p; p++) state = step(state, *p);
        printf("%s %d\n", inputs[i], state);
    }
    return 0;
}
