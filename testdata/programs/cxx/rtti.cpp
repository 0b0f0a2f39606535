// dynamic_cast in all directions, typeid, comparison of type information.
#include "../program.h"
#include <cstdio>
#include <typeindex>
#include <typeinfo>
#include <map>
struct Animal { virtual ~Animal() {} };
struct Swims { virtual ~Swims() {} virtual int depth() { return 1; } };
struct Flies { virtual ~Flies() {} virtual int height() { return 2; } };
struct Duck : Animal, Swims, Flies { int depth() override { return 3; } };
struct Fish : Animal, Swims { int depth() override { return 100; } };
struct Stone {  virtual ~Stone() {} };
NOINLINE void look(Animal *a) {
    auto *s = dynamic_cast<Swims *>(a);
    auto *f = dynamic_cast<Flies *>(a);
    std::printf("%d %d %d\n", s ? s->depth() : 0, f ? f->height() : 0, dynamic_cast<Stone *>(a) != nullptr);
    if (s) std::printf("%d %d\n", dynamic_cast<Animal *>(s) == a, dynamic_cast<void *>(s) == dynamic_cast<void *>(a));
    try { std::printf("%d\n", dynamic_cast<Flies &>(*a).height()); } catch (const std::bad_cast &) { std::puts("bad cast"); }
}
PROGRAM {
    Duck duck; Fish fish; Animal plain;
    Animal *all[] = {&duck, &fish, &plain};
    std::map<std::type_index, int> seen;
    for (auto *a : all) { look(a); seen[typeid(*a)]++; std::puts(typeid(*a).name()); }
    std::printf("%zu %d\n", seen.size(), typeid(*all[0]) == typeid(Duck));
    return 0;
}
