// AT_PHDR, AT_PHNUM and AT_ENTRY of the kernel agree with the ELF header and the segments in memory.
//@ build: kinds=exec,pie,static,static-pie
#include "../program.h"
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));
PROGRAM {
    const Elf64_Phdr *p = (const Elf64_Phdr *)getauxval(AT_PHDR);
    unsigned long count = getauxval(AT_PHNUM), entry = getauxval(AT_ENTRY), base = 0;
    const Elf64_Ehdr *header = &__ehdr_start;
    int entry_executable = 0, mapped = 0;
    for (unsigned long i = 0; i < count; i++)
        if (p[i].p_type == PT_LOAD && p[i].p_offset == 0) base = (unsigned long)header - p[i].p_vaddr;
    for (unsigned long i = 0; i < count; i++) {
        if (p[i].p_type == PT_PHDR) printf("PT_PHDR %d\n", (unsigned long)p == base + p[i].p_vaddr);
        if (p[i].p_type == PT_LOAD && p[i].p_offset <= header->e_phoff && header->e_phoff < p[i].p_offset + p[i].p_filesz)
            mapped = (unsigned long)p == base + p[i].p_vaddr + header->e_phoff - p[i].p_offset;
    }
    printf("AT_PHDR is e_phoff in memory %d\n", mapped);
    printf("magic %d, count %d, entry %d\n", memcmp(header->e_ident, ELFMAG, 4) == 0, header->e_phnum == count, base + header->e_entry == entry);
    for (unsigned long i = 0; i < count; i++)
        if (p[i].p_type == PT_LOAD && (p[i].p_flags & PF_X) && base + p[i].p_vaddr <= entry && entry < base + p[i].p_vaddr + p[i].p_memsz) entry_executable = 1;
    printf("entry executable %d\n", entry_executable);
    return 0;
}
