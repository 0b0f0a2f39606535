// Virtual calls, virtual and multiple inheritance with thunks, dynamic_cast, member pointers, addresses as identity.
#include "check.h"

#include <array>
#include <memory>
#include <typeinfo>

namespace {

struct Shape {
  virtual ~Shape() = default;
  virtual std::int64_t area() const = 0;
  virtual Shape *clone() const = 0;
  virtual const char *name() const { return "shape"; }
};
struct Scalable {
  virtual ~Scalable() = default;
  virtual void scale(int factor) = 0;
  virtual Scalable *self() { return this; }
};
struct Square : Shape, virtual Scalable {
  std::int64_t side;
  explicit Square(std::int64_t s) : side(s) {}
  std::int64_t area() const override { return side * side; }
  Square *clone() const override { return new Square(side); }
  const char *name() const override { return "square"; }
  void scale(int factor) override { side = (side * factor) % 1009; }
  Square *self() override { return this; }  // covariant return through a virtual base: needs an adjusting thunk
};
struct Box : Shape, virtual Scalable {
  std::int64_t width, height;
  Box(std::int64_t w, std::int64_t h) : width(w), height(h) {}
  std::int64_t area() const override { return width * height; }
  Box *clone() const override { return new Box(width, height); }
  void scale(int factor) override {
    if (factor % 2 == 0) width = (width * factor) % 997;
    else height = (height * factor) % 991;
  }
};
struct Cube final : Square {
  explicit Cube(std::int64_t s) : Square(s) {}
  std::int64_t area() const override { return 6 * Square::area(); }
  Cube *clone() const override { return new Cube(side); }
  const char *name() const override { return "cube"; }
};

// Two functions with one body: folding them would make their addresses equal, which the language forbids.
__attribute__((noinline)) int twin_a(int x) { return x * 3 + 1; }
__attribute__((noinline)) int twin_b(int x) { return x * 3 + 1; }

struct Ops {
  int base;
  int add(int x) { return base + x; }
  int multiply(int x) { return base * x; }
  virtual int mix(int x) { return base ^ x; }
  virtual ~Ops() = default;
};
struct LoudOps : Ops {
  int mix(int x) override { return ~(base ^ x); }
};

using Twin = int (*)(int);
// Through volatile, so that the compiler cannot decide the comparison.
volatile Twin twin_pointers[2] = {twin_a, twin_b};

// Recursion with a switch over an enum, and a tail call between two functions.
enum class State { start, even, odd, stop };
std::uint64_t walk_odd(std::uint64_t value, unsigned depth);
__attribute__((noinline)) std::uint64_t walk_even(std::uint64_t value, unsigned depth) {
  if (depth == 0) return value;
  return walk_odd(value / 2 + depth, depth - 1);
}
__attribute__((noinline)) std::uint64_t walk_odd(std::uint64_t value, unsigned depth) {
  if (depth == 0) return value;
  return value % 2 == 0 ? walk_even(value, depth - 1) : walk_odd(3 * value + 1, depth - 1);
}

}  // namespace

std::uint64_t hierarchy_part(Random &random, int rounds) {
  CHECK(twin_pointers[0] != twin_pointers[1]);
  CHECK(twin_pointers[0](5) == twin_pointers[1](5));

  int (Ops::*const members[])(int) = {&Ops::add, &Ops::multiply, &Ops::mix};
  CHECK(members[0] != members[1]);
  Ops plain;
  LoudOps loud;
  plain.base = loud.base = 6;
  CHECK((plain.*members[2])(3) == 5 && (loud.*members[2])(3) == ~5);

  std::uint64_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    std::array<std::unique_ptr<Shape>, 24> shapes;
    for (auto &shape : shapes) {
      const std::int64_t size = 1 + random.below(50);
      switch (random.below(3)) {
        case 0: shape = std::make_unique<Square>(size); break;
        case 1: shape = std::make_unique<Box>(size, size + 3); break;
        default: shape = std::make_unique<Cube>(size); break;
      }
    }
    for (int i = 0; i < 40; ++i) {
      auto &shape = shapes[random.below(shapes.size())];
      auto *scalable = dynamic_cast<Scalable *>(shape.get());
      CHECK(scalable != nullptr);
      scalable->scale(static_cast<int>(1 + random.below(5)));
      CHECK(dynamic_cast<Shape *>(scalable->self()) == shape.get());
      const Shape &object = *shape;
      CHECK((dynamic_cast<Cube *>(shape.get()) != nullptr) == (typeid(object) == typeid(Cube)));
      sum += static_cast<std::uint64_t>(shape->area()) + static_cast<unsigned char>(shape->name()[0]);
      if (i % 8 == 0) shape.reset(shape->clone());
    }
    bool refused = false;
    try {
      Shape &shape = *shapes[0];
      sum += static_cast<std::uint64_t>(dynamic_cast<Box &>(shape).width);
    } catch (const std::bad_cast &) {
      refused = true;
    }
    const Shape &object = *shapes[0];
    CHECK(refused == (typeid(object) != typeid(Box)));
    const auto member = members[random.below(3)];
    Ops &target = random.below(2) ? plain : loud;
    sum = sum * 17 + static_cast<std::uint32_t>((target.*member)(static_cast<int>(random.below(100))));
    sum += walk_even(random.next(), 60);
  }
  return sum;
}
