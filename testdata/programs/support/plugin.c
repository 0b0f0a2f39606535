// Loaded by c/dlopen_plugin.c.
#include <stdio.h>
int plugin_runs;
extern int host_callback(int);
int plugin_add(int x) { return x + 7; }
int plugin_mul(int x) { return x * 7; }
int (*const plugin_table[])(int) = {plugin_add, plugin_mul};
__attribute__((constructor)) static void begin(void) { plugin_runs += 3; puts("plugin begins"); }
__attribute__((destructor)) static void finish(void) { puts("plugin ends"); }
int plugin_work(int (*callback)(int), int n) {
    plugin_runs++;
    switch (n) { case 0: return 1; case 1: puts("one"); return 2; case 2: return 4; case 3: puts("three"); return 8; case 5: return callback(n) + host_callback(n); case 6: return 9; default: return 0; }
}
