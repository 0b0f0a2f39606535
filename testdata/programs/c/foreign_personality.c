// A personality routine that reads only what its compiler writes, as Crystal's and LDC's do: nothing behind the encoding of @LPStart, 4-byte call sites.
//@ build: kinds=exec,pie,static
//@ flags: -fexceptions
#include "../program.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>
static const unsigned char *number(const unsigned char *at, uint64_t *value) {
    *value = 0;
    for (int shift = 0;; shift += 7) { *value |= (uint64_t)(*at & 127) << shift; if (*at++ < 128) return at; }
}
_Unwind_Reason_Code only_own(int version, _Unwind_Action actions, _Unwind_Exception_Class class, struct _Unwind_Exception *exception, struct _Unwind_Context *context) {
    const unsigned char *at = (const unsigned char *)_Unwind_GetLanguageSpecificData(context);
    uint64_t offset = _Unwind_GetIP(context) - 1 - _Unwind_GetRegionStart(context), length, action;
    if (!at) return _URC_CONTINUE_UNWIND;
    if (at[0] != 0xff || at[1] != 0xff || at[2] != 3) { puts("another form"); fflush(stdout); abort(); }
    at = number(at + 3, &length);
    for (const unsigned char *end = at + length; at < end;) {
        uint32_t site[3];
        memcpy(site, at, sizeof site);
        at = number(at + sizeof site, &action);
        if (offset < site[0] || offset - site[0] >= site[1] || !site[2]) continue;
        if (actions & _UA_SEARCH_PHASE) return _URC_HANDLER_FOUND;
        _Unwind_SetGR(context, 0, (uintptr_t)exception);
        _Unwind_SetIP(context, _Unwind_GetRegionStart(context) + site[2]);
        return _URC_INSTALL_CONTEXT;
    }
    return _URC_CONTINUE_UNWIND;
}
static struct _Unwind_Exception thrown;
NOINLINE __attribute__((used)) int throws(int x) {
    if (x > 2) { _Unwind_RaiseException(&thrown); puts("not caught"); }
    return x * 5;
}
NOINLINE static int gcd(int a, int b) { while (b) { int rest = a % b; a = b; b = rest; } return a; }
// guarded(x): throws(x) + 1, then for an even x throws(x + 2) + 2; -1 or -2 where that throws.
asm(".text\n.p2align 4\n.type guarded, @function\nguarded: .cfi_startproc\n"
    ".cfi_personality 0x9b, .Lroutine\n.cfi_lsda 0x1b, .Ltable\n"
    "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset %rbx, -16\nmov %edi, %ebx\n"
    ".Lfirst: call throws\n.Lfirst_end: add $1, %eax\ntest $1, %bl\njne .Lout\n"
    "lea 2(%rbx), %edi\nmov %eax, %ebx\n"
    ".Lsecond: call throws\n.Lsecond_end: lea 2(%rax,%rbx), %eax\njmp .Lout\n"
    ".Lpad_second: mov $-2, %eax\njmp .Lout\n"
    ".Lpad_first: mov $-1, %eax\n"
    ".Lout: pop %rbx\n.cfi_adjust_cfa_offset -8\n.cfi_restore %rbx\nret\n.cfi_endproc\n.size guarded, . - guarded\n"
    ".section .gcc_except_table, \"a\", @progbits\n.p2align 2\n"
    ".Ltable: .byte 0xff, 0xff, 3\n.uleb128 .Ltable_end - .Lsites\n"
    ".Lsites: .long .Lfirst - guarded, .Lfirst_end - .Lfirst, .Lpad_first - guarded\n.byte 0\n"
    ".long .Lsecond - guarded, .Lsecond_end - .Lsecond, .Lpad_second - guarded\n.byte 0\n.Ltable_end:\n"
    ".section .data.rel.ro, \"aw\"\n.p2align 3\n.Lroutine: .quad only_own\n.text\n");
int guarded(int);
PROGRAM {
    for (int i = 0; i < 6; i++) printf("%d %d\n", guarded(i), gcd(i * 6, 84));
    return 0;
}
