class Search {
    static int search(int[] values, int wanted) {
        int low = 0;
        int high = values.length - 1;
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

    static int clamp(int value, int low, int high) {
        if (low > high) {
            throw new IllegalArgumentException("low is above high");
        }
        return Math.max(low, Math.min(value, high));
    }
}
