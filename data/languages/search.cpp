#include <algorithm>
#include <stdexcept>
#include <vector>

int search(const std::vector<int>& values, int wanted) {
    int low = 0;
    int high = static_cast<int>(values.size()) - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        if (values[middle] == wanted) {
            return middle;
        }
        if (values[middle] < wanted) {
            low = middle + 1;
        } else {
            high = middle - 1;
        }
    }
    return -1;
}

int clamp(int value, int low, int high) {
    if (low > high) {
        throw std::invalid_argument("low is above high");
    }
    return std::max(low, std::min(value, high));
}
