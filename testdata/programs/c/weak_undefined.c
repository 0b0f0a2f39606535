// Weak references to nothing: address zero, tested before the call; in data and in code.
#include "../program.h"
#include <stdio.h>
extern void not_there(void) __attribute__((weak));
extern int not_there_data __attribute__((weak));
__attribute__((weak)) int overridable(int x) { return x + 1; }
static void (*const pointers[])(void) = {not_there, 0};
NOINLINE int call_if_there(void) { if (not_there) { not_there(); return 1; } return 0; }
PROGRAM {
    printf("%d %d %d\n", call_if_there(), &not_there_data == 0, pointers[0] == 0);
    printf("%d\n", overridable(4));
    return 0;
}
