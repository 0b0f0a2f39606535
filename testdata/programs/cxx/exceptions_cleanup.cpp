// Cleanups: constructors that throw half way, arrays, members, temporaries, destructors that throw.
#include "../program.h"
#include <cstdio>
#include <memory>
#include <new>
#include <vector>
static int alive, countdown;
struct Item {
    int id;
    Item() : id(alive) { if (--countdown == 0) throw id; alive++; }
    Item(const Item &other) : id(other.id) { if (--countdown == 0) throw id + 100; alive++; }
    ~Item() { alive--; }
};
struct Group { Item a; std::unique_ptr<Item> b{new Item}; Item c[3]; Item d; Group() { if (--countdown == 0) throw 1000; } };
struct Loud { ~Loud() noexcept(false) { if (--countdown == 0) throw 2000; } };
NOINLINE Item pass(Item x) { return x; }
NOINLINE int attempt(int n) {
    countdown = n;
    try {
        Group g;
        Loud loud;
        Item *array = new Item[4];
        struct Free { Item *p; ~Free() { delete[] p; } } free_array{array};
        std::vector<Item> v(3);
        v.push_back(pass(g.d));
        Item copy = pass(v[1]);
        return copy.id;
    } catch (int e) { return -e; }
}
PROGRAM { for (int n = 0; n < 40; n++) std::printf("%d %d %d\n", n, attempt(n), alive); return 0; }
