// The smallest useful program.
//@ gdb: greet
#include "../program.h"
#include <stdio.h>
NOINLINE void greet(const char *whom) { printf("hello, %s\n", whom); }
PROGRAM {
    greet("world");
    return 0;
}
