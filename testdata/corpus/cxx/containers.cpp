// Templates, containers, algorithms and streams: many small functions, some of them thrown through.
#include "check.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <iomanip>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <unordered_map>
#include <variant>

namespace {

template <typename Container>
std::uint64_t fingerprint(const Container &container) {
  return std::accumulate(container.begin(), container.end(), std::uint64_t{14695981039346656037ULL},
                         [](std::uint64_t hash, const auto &value) { return (hash ^ static_cast<std::uint64_t>(value)) * 1099511628211ULL; });
}

template <typename Key>
struct Tree {
  struct Node {
    Key key;
    std::unique_ptr<Node> left, right;
  };
  std::unique_ptr<Node> root;
  std::size_t size = 0;

  void insert(Key key) {
    std::unique_ptr<Node> *at = &root;
    while (*at) {
      if (key == (*at)->key) throw std::invalid_argument("twice");
      at = key < (*at)->key ? &(*at)->left : &(*at)->right;
    }
    *at = std::make_unique<Node>(Node{std::move(key), nullptr, nullptr});
    ++size;
  }
  template <typename Visit>
  static void each(const std::unique_ptr<Node> &node, Visit &visit) {
    if (!node) return;
    each(node->left, visit);
    visit(node->key);
    each(node->right, visit);
  }
};

using Value = std::variant<std::monostate, std::int64_t, double, std::string, std::vector<std::int64_t>>;

struct Weigh {
  std::uint64_t operator()(std::monostate) const { return 1; }
  std::uint64_t operator()(std::int64_t value) const { return static_cast<std::uint64_t>(value); }
  std::uint64_t operator()(double value) const { return static_cast<std::uint64_t>(value * 8); }
  std::uint64_t operator()(const std::string &value) const { return fingerprint(value); }
  std::uint64_t operator()(const std::vector<std::int64_t> &value) const { return fingerprint(value); }
};

Value make_value(Random &random) {
  switch (random.below(5)) {
    case 0: return std::monostate{};
    case 1: return static_cast<std::int64_t>(random.next());
    case 2: return random.below(1000) / 8.0;
    // Drawn one by one: the order in which arguments are evaluated is the compiler's choice.
    case 3: {
      const std::size_t length = random.below(40);
      return std::string(length, static_cast<char>('a' + random.below(26)));
    }
    default: {
      const std::size_t length = random.below(9);
      return std::vector<std::int64_t>(length, random.below(77));
    }
  }
}

// Parses "key=number" items; throws out of the standard library's own functions.
std::optional<std::int64_t> parse_item(const std::string &item) {
  try {
    return std::stoll(item.substr(item.find('=') + 1));
  } catch (const std::invalid_argument &) {
    return std::nullopt;
  } catch (const std::out_of_range &) {
    return -1;
  }
}

std::uint64_t streams(Random &random) {
  std::ostringstream out;
  for (int i = 0; i < 12; ++i) {
    out << std::setw(6) << std::setfill('0') << random.below(100000) << ' ' << std::hex << random.below(4096) << std::dec << ' ' << std::fixed
        << std::setprecision(3) << random.below(1000) / 16.0 << '\n';
  }
  std::istringstream in(out.str());
  in.exceptions(std::ios::badbit);
  std::uint64_t sum = 0;
  std::string first, second;
  double third = 0;
  while (in >> first >> second >> third) sum = sum * 7 + fingerprint(first + second) + static_cast<std::uint64_t>(third * 16);
  std::istringstream strict("no number");
  strict.exceptions(std::ios::failbit);
  int number = 0;
  try {
    strict >> number;
    CHECK(false);
  } catch (const std::ios_base::failure &) {
    sum += 1;
  }
  return sum;
}

}  // namespace

std::uint64_t containers_part(Random &random, int rounds) {
  CHECK(parse_item("a=12") == 12 && !parse_item("a=x") && parse_item("a=99999999999999999999") == -1);
  std::uint64_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    std::map<std::string, std::vector<int>> ordered;
    std::unordered_map<std::uint32_t, std::string> hashed;
    std::multiset<std::uint32_t, std::greater<>> descending;
    std::deque<std::uint32_t> queue;
    std::list<std::uint32_t> list;
    Tree<std::uint32_t> tree;
    int twice = 0;
    for (int i = 0; i < 100; ++i) {
      const std::uint32_t draw = random.below(150);
      ordered["key" + std::to_string(draw % 17)].push_back(i);
      hashed[draw] += static_cast<char>('a' + draw % 26);
      descending.insert(draw);
      if (draw % 3 == 0) queue.push_front(draw);
      else queue.push_back(draw);
      list.push_back(draw ^ 5);
      try {
        tree.insert(draw);
      } catch (const std::invalid_argument &) {
        ++twice;
      }
    }
    CHECK(tree.size + static_cast<std::size_t>(twice) == 100 && tree.size == hashed.size());
    std::vector<std::uint32_t> keys;
    auto visit = [&keys](std::uint32_t key) { keys.push_back(key); };
    Tree<std::uint32_t>::each(tree.root, visit);
    CHECK(std::is_sorted(keys.begin(), keys.end()));
    list.sort();
    list.unique();
    CHECK(list.size() == hashed.size());
    std::vector<std::uint32_t> sorted(queue.begin(), queue.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](auto a, auto b) { return a % 10 != b % 10 ? a % 10 < b % 10 : a < b; });
    std::sort(queue.begin(), queue.end(), std::greater<>());
    CHECK(std::equal(queue.begin(), queue.end(), descending.begin()));
    for (const auto &[key, values] : ordered) sum = sum * 5 + fingerprint(key) + fingerprint(values);
    sum += fingerprint(sorted) + fingerprint(keys);
    std::vector<Value> values;
    for (int i = 0; i < 20; ++i) values.push_back(make_value(random));
    for (const Value &value : values) sum ^= std::visit(Weigh(), value) + (sum << 3);
    bool refused = false;
    try {
      sum += static_cast<std::uint64_t>(std::get<std::int64_t>(values[0]));
    } catch (const std::bad_variant_access &) {
      refused = true;
    }
    CHECK(refused == !std::holds_alternative<std::int64_t>(values[0]));
    try {
      sum += ordered.at("none").size();
      CHECK(false);
    } catch (const std::out_of_range &) {
      sum += 2;
    }
    sum += streams(random);
  }
  return sum;
}
