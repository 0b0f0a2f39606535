// The same program under the linker options that change the shape of the file.
//@ build: tag=separate-code linkers=ld,lld,mold
//@ flags: -Wl,-z,separate-code
//@ build: tag=one-segment linkers=ld,lld
//@ ld: -Wl,-z,noseparate-code
//@ lld: -Wl,-z,noseparate-code
//@ build: tag=no-relro kinds=exec,pie,so
//@ flags: -Wl,-z,norelro
//@ build: tag=hash-sysv kinds=exec,pie,so
//@ flags: -Wl,--hash-style=sysv -Wl,--build-id=none
//@ build: tag=hash-gnu kinds=exec,pie,so
//@ flags: -Wl,--hash-style=gnu -Wl,--build-id=sha1 -Wl,-z,now
//@ build: tag=no-rosegment linkers=lld
//@ flags: -Wl,--no-rosegment
//@ build: tag=huge-page linkers=ld,lld,gold
//@ flags: -Wl,-z,max-page-size=0x200000
//@ build: tag=symbolic kinds=so
//@ flags: -Wl,-Bsymbolic
//@ build: tag=no-eh-frame-header linkers=ld,lld,mold
//@ flags: -Wl,--no-eh-frame-hdr
//@ build: tag=text-address kinds=exec linkers=ld,lld
//@ ld: -Wl,-Ttext-segment=0x10000000
//@ lld: -Wl,--image-base=0x10000000
#include "../program.h"
#include <stdio.h>
#include <stdlib.h>
int exported_data = 4;
int exported(int x) { return x + exported_data; }
static int (*const table[])(int) = {exported, abs};
NOINLINE int choose(unsigned n) { switch (n) { case 0: puts("a"); return 1; case 1: return 3; case 2: puts("c"); return 5; case 3: return 7; case 4: puts("e"); return 11; case 5: return 13; default: return 0; } }
PROGRAM { for (int i = 0; i < 7; i++) printf("%d %d\n", choose((unsigned)i), table[i & 1](-i)); return 0; }
