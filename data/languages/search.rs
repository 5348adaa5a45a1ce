fn search(values: &[i64], wanted: i64) -> Option<usize> {
    let mut low = 0;
    let mut high = values.len();
    while low < high {
        let middle = (low + high) / 2;
        if values[middle] == wanted {
            return Some(middle);
        }
        if values[middle] < wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    None
}

fn clamp(value: i64, low: i64, high: i64) -> i64 {
    if low > high {
        panic!("low is above high");
    }
    low.max(value.min(high))
}
