// Streams, strings, containers, algorithms: much library code, static initialization, locales.
#include "../program.h"
#include <algorithm>
#include <iostream>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>
PROGRAM {
    std::map<std::string, std::vector<int>> index;
    std::istringstream text("the quick brown fox jumps over the lazy dog and the cat");
    std::string word;
    for (int i = 0; text >> word; i++) index[word].push_back(i);
    for (const auto &[key, places] : index) {
        std::cout << key;
        for (int place : places) std::cout << ' ' << place;
        std::cout << '\n';
    }
    std::vector<int> v(50);
    std::iota(v.begin(), v.end(), 1);
    std::sort(v.begin(), v.end(), [](int a, int b) { return a % 7 != b % 7 ? a % 7 < b % 7 : a > b; });
    std::cout << v[0] << ' ' << v[25] << ' ' << std::accumulate(v.begin(), v.end(), 0) << std::endl;
    return 0;
}
