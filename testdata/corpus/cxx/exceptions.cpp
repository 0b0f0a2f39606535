// Throwing, catching and unwinding in every form the language has.
#include "check.h"

#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <type_traits>

namespace {

struct Base {
  virtual ~Base() = default;
  virtual int kind() const { return 0; }
};
struct Left : virtual Base {
  int kind() const override { return 1; }
};
struct Right : virtual Base {
  int kind() const override { return 2; }
};
struct Both final : Left, Right {
  int kind() const override { return 3; }
};
struct Private : private Left {
  int kind() const override { return 4; }
};

class CodeError : public std::runtime_error {
 public:
  CodeError(int code, const std::string &text) : std::runtime_error(text), code_(code) {}
  int code() const noexcept { return code_; }

 private:
  int code_;
};

// Copied on throw: counts live copies, which must be none at the end.
struct Counted {
  static int alive;
  int value;
  explicit Counted(int v) : value(v) { ++alive; }
  Counted(const Counted &other) : value(other.value) { ++alive; }
  ~Counted() { --alive; }
};
int Counted::alive = 0;

[[noreturn]] __attribute__((noinline)) void throw_kind(unsigned kind) {
  switch (kind) {
    case 0: throw 7;
    case 1: throw std::string("text");
    case 2: throw Left();
    case 3: throw Both();
    case 4: throw CodeError(404, "not found");
    case 5: throw std::bad_alloc();
    case 6: throw Counted(11);
    case 7: throw static_cast<const char *>("literal");
    case 8: throw 2.5;
    case 9: throw Private();
    case 10: throw nullptr;
    default: throw std::out_of_range("range " + std::to_string(kind));
  }
}

// Each frame owns things of another type, so each has cleanups of another shape.
template <int Depth>
__attribute__((noinline)) int descend(unsigned kind, int weight) {
  std::string owned(static_cast<std::size_t>(Depth) + 20, static_cast<char>('a' + Depth % 26));
  std::unique_ptr<Counted> counted = std::make_unique<Counted>(Depth);
  int below = 0;
  if constexpr (Depth == 0) {
    if (kind < 32) throw_kind(kind);
    below = weight;
  } else {
    below = descend<Depth - 1>(kind, weight + counted->value);
  }
  return below + static_cast<int>(owned.size()) % 3;
}

__attribute__((noinline)) int classify(unsigned kind) {
  try {
    return descend<12>(kind, 1);
  } catch (int value) {
    return 1000 + value;
  } catch (const std::string &text) {
    return 2000 + static_cast<int>(text.size());
  } catch (const Right &right) {
    return 3000 + right.kind();
  } catch (const Base &base) {
    return 4000 + base.kind();
  } catch (const CodeError &error) {
    return 5000 + error.code();
  } catch (const std::exception &error) {
    return 6000 + static_cast<int>(std::string(error.what()).size() > 0);
  } catch (const Counted &counted) {
    return 7000 + counted.value;
  } catch (const char *text) {
    return 8000 + text[0];
  } catch (double value) {
    return 9000 + static_cast<int>(value * 2);
  } catch (...) {
    return 10000;
  }
}

// `throw;` from a function called in the handler; then a handler that throws something else.
__attribute__((noinline)) void rethrow_current() { throw; }

__attribute__((noinline)) int rethrow_chain(int level) {
  Guard guard("r" + std::to_string(level));
  try {
    if (level == 0) throw CodeError(1, "first");
    return rethrow_chain(level - 1);
  } catch (CodeError &error) {
    Guard inner("h" + std::to_string(level));
    if (level % 2 == 0) rethrow_current();
    throw CodeError(error.code() * 2 + level, "again");
  }
}

// What would leave a noexcept function ends the program: its call sites have a landing pad, or none where none is needed.
__attribute__((noinline)) int no_leak(unsigned kind) noexcept {
  try {
    descend<3>(kind, 0);
    return 0;
  } catch (...) {
    return 1;
  }
}

// A constructor that throws half way: members built so far, and the bases, are destroyed.
struct HalfBuilt : Guard {
  Guard first;
  Guard second;
  explicit HalfBuilt(bool fail) : Guard("base"), first("first"), second(fail ? throw CodeError(9, "half") : "second") {}
};

// An array whose third element's construction throws.
struct Element {
  static int made;
  static int destroyed;
  Element() {
    if (made == 2) throw made;
    ++made;
  }
  ~Element() { ++destroyed; }
};
int Element::made = 0;
int Element::destroyed = 0;

// A function-try-block around the initializers.
struct Wrapped {
  Guard member;
  Wrapped() try : member("member") {
    throw 5;
  } catch (int value) {
    trace.push_back("caught" + std::to_string(value));
    // Leaving this handler throws again, by rule.
  }
};

__attribute__((noinline)) void nested_throw(int depth) {
  try {
    if (depth == 0) throw std::logic_error("bottom");
    nested_throw(depth - 1);
  } catch (...) {
    std::throw_with_nested(CodeError(depth, "level " + std::to_string(depth)));
  }
}

__attribute__((noinline)) std::string unnest(const std::exception &error) {
  std::string text = error.what();
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception &inner) {
    text += "<" + unnest(inner);
  }
  return text;
}

// Destroyed while another exception is in flight, and itself throws and catches inside.
struct Busy {
  ~Busy() {
    CHECK(std::uncaught_exceptions() >= 1);
    try {
      throw 3L;
    } catch (long value) {
      trace.push_back("busy" + std::to_string(value));
    }
  }
};

// Goto out of a scope with cleanups, loops with break out of a try, and a hot path beside cold ones.
__attribute__((noinline)) std::uint64_t loop_with_tries(Random &random, int count) {
  std::uint64_t sum = 0;
  for (int i = 0; i < count; ++i) {
    try {
      const std::uint32_t draw = random.below(64);
      if (draw == 0) throw CodeError(i, "rare");
      if (draw == 1) continue;
      if (draw == 2 && i > count - 3) goto done;
      try {
        if (draw < 6) throw static_cast<int>(draw);
        sum += draw;
      } catch (int value) {
        if (value == 5) throw std::string(5, 'x');
        sum ^= static_cast<std::uint64_t>(value) << 8;
      }
    } catch (const std::string &text) {
      sum += text.size() << 16;
    } catch (const CodeError &error) {
      sum += static_cast<std::uint64_t>(error.code());
    }
  }
done:
  return sum;
}

void ordered_cleanups() {
  try {
    rethrow_chain(3);
    CHECK(false);
  } catch (const CodeError &error) {
    CHECK(error.code() == 9);
  }
  CHECK(take_trace() == "+r3 +r2 +r1 +r0 +h0 -h0 -r0 +h1 -h1 -r1 +h2 -h2 -r2 +h3 -h3 -r3");

  try {
    HalfBuilt half(true);
    CHECK(false);
  } catch (const CodeError &) {
  }
  CHECK(take_trace() == "+base +first -first -base");

  try {
    Wrapped wrapped;
    CHECK(false);
  } catch (int value) {
    CHECK(value == 5);
  }
  CHECK(take_trace() == "+member -member caught5");

  try {
    Busy busy;
    Guard guard("g");
    throw 1;
  } catch (int) {
  }
  CHECK(take_trace() == "+g -g busy3");

  Element::made = Element::destroyed = 0;
  try {
    std::unique_ptr<Element[]> elements(new Element[5]);
    CHECK(false);
  } catch (int value) {
    CHECK(value == 2);
  }
  CHECK(Element::destroyed == 2);
}

void kept_for_later() {
  std::exception_ptr kept;
  try {
    descend<6>(4, 0);
  } catch (...) {
    kept = std::current_exception();
  }
  CHECK(kept != nullptr);
  for (int i = 0; i < 3; ++i) {
    try {
      std::rethrow_exception(kept);
    } catch (const CodeError &error) {
      CHECK(error.code() == 404);
    }
  }
  try {
    nested_throw(3);
    CHECK(false);
  } catch (const CodeError &error) {
    CHECK(unnest(error) == "level 3<level 2<level 1<level 0<bottom");
  }
  std::function<int(int)> through = [](int value) -> int {
    if (value > 3) throw CodeError(value, "lambda");
    return value;
  };
  CHECK(through(2) == 2);
  try {
    through(4);
    CHECK(false);
  } catch (const CodeError &error) {
    CHECK(error.code() == 4);
  }
}

}  // namespace

std::uint64_t exceptions_part(Random &random, int rounds) {
  static const int expected[] = {1007, 2004, 4001, 3003, 5404, 6001, 7011, 8000 + 'l', 9005, 10000};
  for (unsigned kind = 0; kind < 10; ++kind) CHECK(classify(kind) == expected[kind]);
  // A null pointer constant is caught by the first pointer handler.
  static_assert(!std::is_same_v<std::nullptr_t, const char *>);
  CHECK(classify(12) == 6001);
  CHECK(classify(64) > 0);
  CHECK(no_leak(3) == 1 && no_leak(64) == 0);
  ordered_cleanups();
  kept_for_later();

  std::uint64_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    const unsigned kind = random.below(40);
    if (kind != 10) sum = sum * 31 + static_cast<std::uint64_t>(classify(kind));
    sum += loop_with_tries(random, 200);
    sum += static_cast<std::uint64_t>(no_leak(kind));
  }
  CHECK(Counted::alive == 0);
  CHECK(std::uncaught_exceptions() == 0);
  return sum;
}
