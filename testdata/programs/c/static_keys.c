// asm goto with a table of code addresses, relative and absolute, that another part of the program walks.
//@ stays: places whose address is stored may bound a range; what stands around them stays
#include "../program.h"
#include <stdint.h>
#include <stdio.h>
struct site { int32_t code, target; };
extern const struct site __start_jump_sites[] __attribute__((visibility("hidden")));
extern const struct site __stop_jump_sites[] __attribute__((visibility("hidden")));
#define SITE(label) __asm__ goto("1: .byte 0x0f,0x1f,0x44,0x00,0x00\n.pushsection jump_sites,\"a\"\n.balign 4\n.long 1b - ., %l[" #label "] - .\n.popsection" : : : : label)
NOINLINE int first(int x) { SITE(enabled); return x + 1; enabled: puts("enabled"); return x * 100; }
NOINLINE int second(int x) { for (int i = 0; i < x; i++) { SITE(rare); continue; rare: puts("rare"); return -1; } return x; }
PROGRAM {
    int good = 0, count = 0;
    for (const struct site *s = __start_jump_sites; s < __stop_jump_sites; s++) {
        const unsigned char *code = (const unsigned char *)&s->code + s->code;
        count++;
        good += code[0] == 0x0f && code[1] == 0x1f && s->target != 0;
    }
    printf("%d %d\n", count >= 2, good == count);
    printf("%d %d\n", first(3), second(4));
    return 0;
}
