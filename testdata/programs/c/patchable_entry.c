// Patchable entries: NOPs before and at the entry, listed by address in a section that the program reads.
//@ stays: NOPs before an entry run into it; both stay
//@ build: tag=at-entry
//@ flags: -fpatchable-function-entry=5
//@ build: tag=before-entry
//@ flags: -fpatchable-function-entry=9,4
#include "../program.h"
#include <stdio.h>
extern const unsigned char *const __start___patchable_function_entries[] __attribute__((visibility("hidden")));
extern const unsigned char *const __stop___patchable_function_entries[] __attribute__((visibility("hidden")));
NOINLINE int one(int x) { return x < 4 ? x : x / 2; }
NOINLINE int two(int x) { return one(x) + one(x + 3); }
PROGRAM {
    int entries = 0, nops = 0;
    for (const unsigned char *const *e = __start___patchable_function_entries; e < __stop___patchable_function_entries; e++) { entries++; nops += **e == 0x90 || **e == 0x0f || **e == 0x66; }
    printf("%d %d\n", entries >= 3, entries == nops);
    printf("%d %d\n", two(1), two(9));
    return 0;
}
