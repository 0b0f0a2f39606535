// Return addresses as values: each call site has one, always the same, none is null, all differ.
//@ flags: -fno-optimize-sibling-calls
#include "../program.h"
#include <stdio.h>
static void *seen[8];
static int count;
NOINLINE void record(void) {
    void *address = __builtin_extract_return_addr(__builtin_return_address(0));
    for (int i = 0; i < count; i++) if (seen[i] == address) { printf("site %d again\n", i); return; }
    printf("site %d\n", count);
    seen[count++] = address;
}
NOINLINE void twice(int n) { record(); if (n > 1) { record(); puts("more"); } record(); }
NOINLINE void *frame(void) { return __builtin_frame_address(0); }
PROGRAM { for (int i = 0; i < 4; i++) twice(i); record(); printf("%d\n", frame() != 0); return 0; }
