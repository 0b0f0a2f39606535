// Tables of 32-bit differences between code and data, made by the assembler: `.long function - .`.
//@ kept: down a word of either table could be one of the other, by the bytes
//@ kept: flip likewise
#include "../program.h"
#include <stdint.h>
#include <stdio.h>
__attribute__((used)) static int up(int x) { return x + 1; }
__attribute__((used)) static int down(int x) { return x - 1; }
__attribute__((used)) static int flip(int x) { return -x; }
__asm__(".pushsection .rodata.relative,\"a\",@progbits\n.balign 4\n"
        "self_relative: .long up - ., down - ., flip - .\n"
        "table_relative: .long up - table_relative, down - table_relative, flip - table_relative\n"
        ".popsection\n");
extern const int32_t self_relative[] __attribute__((visibility("hidden")));
extern const int32_t table_relative[] __attribute__((visibility("hidden")));
typedef int (*function)(int);
PROGRAM {
    for (int i = 0; i < 3; i++) {
        function f = (function)((intptr_t)&self_relative[i] + self_relative[i]);
        function g = (function)((intptr_t)table_relative + table_relative[i]);
        printf("%d %d %d\n", f(10), g(20), f == g);
    }
    return 0;
}
