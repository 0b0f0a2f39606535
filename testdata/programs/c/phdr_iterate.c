// dl_iterate_phdr: the code lies in an executable, not writable segment; data in a writable one; program headers are in memory.
#define _GNU_SOURCE
#include "../program.h"
#include <link.h>
#include <stdio.h>
static int variable = 1;
NOINLINE int function(int x) { return x + variable; }
static int in(ElfW(Addr) base, const ElfW(Phdr) *p, const void *address) { return base + p->p_vaddr <= (ElfW(Addr))address && (ElfW(Addr))address < base + p->p_vaddr + p->p_memsz; }
static int visit(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size; (void)data;
    int mine = 0, headers = 0, stack = -1;
    unsigned code = 0, data_flags = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) mine |= info->dlpi_phdr[i].p_type == PT_LOAD && in(info->dlpi_addr, &info->dlpi_phdr[i], &variable);
    if (!mine) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD) {
            if (in(info->dlpi_addr, p, (void *)function)) code = p->p_flags;
            if (in(info->dlpi_addr, p, &variable)) data_flags = p->p_flags;
            if (in(info->dlpi_addr, p, info->dlpi_phdr)) headers = 1;
            if ((p->p_flags & PF_W) && (p->p_flags & PF_X)) printf("writable and executable\n");
            if ((p->p_vaddr ^ p->p_offset) & 4095) printf("address and offset disagree\n");
        }
        if (p->p_type == PT_PHDR && (ElfW(Addr))info->dlpi_phdr != info->dlpi_addr + p->p_vaddr) printf("PT_PHDR wrong\n");
        if (p->p_type == PT_GNU_STACK) stack = !!(p->p_flags & PF_X);
    }
    // Not in the loop: the order of segments is nobody's promise.
    printf("code %u data %u headers %d stack %d\n", code, data_flags, headers, stack);
    return 1;
}
PROGRAM { printf("%d %d\n", dl_iterate_phdr(visit, 0), function(2)); return 0; }
