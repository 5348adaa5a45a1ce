"""Make the bank that ships: how forecasts of the design set's curves went.

    python benchmarks/forecast_bank.py [--curves data/forecast/design.csv] [--out data/forecast/scores.csv]

The last line is one JSON object.
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hrm_lab import forecast_bank, forecast_curves  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=ROOT / "data" / "forecast" / "design.csv")
    parser.add_argument("--out", type=Path, default=forecast_bank.SHIPPED)
    args = parser.parse_args()
    began = time.process_time()
    bank = forecast_bank.scored(forecast_curves.read(args.curves))
    forecast_bank.write(args.out, bank)
    print(json.dumps({"forecasts": len(bank.numbers), "loss": bank.says("loss"), "accuracy": bank.says("accuracy"),
                      "agreement": round(bank.agreement, 3), "bytes": args.out.stat().st_size,
                      "cpu_seconds": round(time.process_time() - began, 1)}))


if __name__ == "__main__":
    main()
