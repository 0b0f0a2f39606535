// A symbol in a section without content, as in libgomp's start-up files: it has the address of the next section, which may move.
//@ build: kinds=exec,pie,so
#include "../program.h"
#include <stdio.h>
__asm__(".section .offload_funcs, \"a\"\n.globl function_table\n.hidden function_table\n.type function_table, @object\n.balign 8\nfunction_table:\n.text\n");
NOINLINE static int up(int x) { return x > 4 ? x * 3 : x + 1; }
NOINLINE static int down(int x) { while (x > 7) x -= 3; return x; }
PROGRAM {
    for (int i = 0; i < 12; i += 3) printf("%d %d\n", up(i), down(i));
    return 0;
}
