function search(values, wanted) {
  let low = 0;
  let high = values.length - 1;
  while (low <= high) {
    const middle = Math.floor((low + high) / 2);
    if (values[middle] === wanted) {
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

function clamp(value, low, high) {
  if (low > high) {
    throw new RangeError("low is above high");
  }
  return Math.max(low, Math.min(value, high));
}
