// Linked with c/symbol_versions.c.
__attribute__((noinline)) int versioned_old(int x) { return x + 1; }
__attribute__((noinline)) int versioned_new(int x) { return x + 2; }
__asm__(".symver versioned_old, versioned@VERS_1.0");
__asm__(".symver versioned_new, versioned@@VERS_2.0");
int hidden_caller(int x) { return versioned_old(x) * 100 + versioned_new(x); }
