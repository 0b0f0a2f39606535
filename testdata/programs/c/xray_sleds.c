// Sleds of XRay: a jump over NOPs at the entry, which the program writes over as a whole. xray_instr_map has distances from its words to them.
//@ build: kinds=exec,pie,static
#include "../program.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
struct sled { int64_t address, function; unsigned char kind, rest[15]; };
extern struct sled __start_xray_instr_map[] __attribute__((visibility("hidden"))), __stop_xray_instr_map[] __attribute__((visibility("hidden")));
// Returns its argument plus 2, or what the sled says.
asm(".text\n.p2align 4\n.type plus, @function\nplus: .cfi_startproc\n"
    ".Lsled: .byte 0xeb, 9\n.byte 0x66, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0\n"
    "lea 2(%rdi), %eax\nret\n.cfi_endproc\n.size plus, . - plus\n"
    ".type spin, @function\nspin: .cfi_startproc\n"
    ".Lsled2: .byte 0xeb, 9\n.byte 0x66, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0\n"
    "test %edi, %edi\nje .Ldone\nsub $1, %edi\njmp .Lsled2\n.Ldone: mov $7, %eax\n"
    ".Lsled3: ret\n.byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0\n.cfi_endproc\n.size spin, . - spin\n"
    ".section xray_instr_map, \"a\", @progbits\n"
    ".quad .Lsled - ., plus - .\n.byte 0, 1\n.zero 14\n.quad .Lsled2 - ., spin - .\n.byte 0, 1\n.zero 14\n"
    ".quad .Lsled3 - ., spin - .\n.byte 1, 1\n.zero 14\n.text\n");
int plus(int), spin(int);
static void patch(int64_t *word) {
    static const unsigned char code[11] = {0x8d, 0x87, 100, 0, 0, 0, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc};
    unsigned char *at = (unsigned char *)word + *word;
    mprotect((void *)((uintptr_t)at & -4096), 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(at, code, sizeof code);
    mprotect((void *)((uintptr_t)at & -4096), 8192, PROT_READ | PROT_EXEC);
}
NOINLINE static int other(int x) { return x > 4 ? x * 3 : x - 9; }
PROGRAM {
    printf("%d %d %d %d\n", plus(1), spin(3), other(3), other(7));
    int count = 0;
    for (struct sled *s = __start_xray_instr_map; s < __stop_xray_instr_map; s++, count++) if (s->kind == 0) patch(&s->address);
    printf("%d %d %d %d\n", count, plus(1), spin(3), other(5));
    return 0;
}
