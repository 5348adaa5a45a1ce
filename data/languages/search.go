package search

func Search(values []int, wanted int) int {
	low := 0
	high := len(values) - 1
	for low <= high {
		middle := (low + high) / 2
		if values[middle] == wanted {
			return middle
		}
		if values[middle] < wanted {
			low = middle + 1
		} else {
			high = middle - 1
		}
	}
	return -1
}

func Clamp(value, low, high int) int {
	if low > high {
		panic("low is above high")
	}
	return max(low, min(value, high))
}
