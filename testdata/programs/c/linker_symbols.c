// Symbols of the linker: edges of text, data and bss keep their order, the heap still begins after _end.
//@ build: kinds=exec,pie,static,static-pie
#define _DEFAULT_SOURCE
#include "../program.h"
#include <stdio.h>
#include <unistd.h>
extern char etext[], edata[], end[], __bss_start[];
static int in_data = 5;
static int in_bss[100];
NOINLINE int between(char *low, void *p, char *high) { return low <= (char *)p && (char *)p < high; }
PROGRAM {
    printf("%d %d\n", (char *)etext <= (char *)edata, (char *)edata <= (char *)end);
    printf("%d %d\n", between(etext, &in_data, end), between(__bss_start, in_bss, end));
    printf("%d\n", (char *)sbrk(0) >= end);
    printf("%d\n", in_data + in_bss[3]);
    return 0;
}
