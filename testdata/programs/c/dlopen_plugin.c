// A plugin loaded at run time: its code calls back, its constructors run, it is unloaded and loaded again.
//@ build: kinds=exec,pie,so
//@ flags: -rdynamic -ldl
//@ plugin: plugin.c
#define _GNU_SOURCE
#include "../program.h"
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((visibility("default"))) int host_callback(int x) { return x + 1000; }
static int find_self(struct dl_phdr_info *info, size_t size, void *path) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        ElfW(Addr) start = info->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_LOAD && start <= (ElfW(Addr))host_callback && (ElfW(Addr))host_callback < start + p->p_memsz) {
            if (info->dlpi_name[0]) strcpy(path, info->dlpi_name);
            else { ssize_t n = readlink("/proc/self/exe", path, 4000); ((char *)path)[n < 0 ? 0 : n] = 0; }
            return 1;
        }
    }
    return 0;
}
PROGRAM {
    static char path[4096];
    dl_iterate_phdr(find_self, path);
    strcpy(strrchr(path, '/') + 1, "plugin.so");
    for (int round = 0; round < 2; round++) {
        void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!plugin) { puts("cannot load"); return 2; }
        int (*work)(int (*)(int), int) = (int (*)(int (*)(int), int))dlsym(plugin, "plugin_work");
        int (**table)(int) = dlsym(plugin, "plugin_table");
        int *runs = dlsym(plugin, "plugin_runs");
        printf("%d %d %d\n", work(host_callback, 5), table[0](3), table[1](3));
        printf("%d %d\n", *runs, table[0] == (int (*)(int))dlsym(plugin, "plugin_add"));
        Dl_info info;
        printf("%d %s\n", dladdr((void *)table[1], &info) != 0, info.dli_sname ? info.dli_sname : "none");
        dlclose(plugin);
    }
    return 0;
}
