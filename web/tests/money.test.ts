import assert from "node:assert/strict";
import { test } from "node:test";
import { type AmountFault, amountParts, decimal, formatMoney, parseAmount } from "../src/money.ts";

test("a decimal has exactly the digits of its scale", () => {
  assert.equal(decimal(1250, 2), "12.50");
  assert.equal(decimal(5, 2), "0.05");
  assert.equal(decimal(-5, 2), "-0.05");
  assert.equal(decimal(1250, 0), "1250");
  assert.equal(decimal(1250, 3), "1.250");
  assert.equal(decimal(Number.MAX_SAFE_INTEGER, 2), "90071992547409.91");
});

test("amounts are shown by language and currency, to the last digit", () => {
  assert.equal(formatMoney({ amount: 1250, currency: "EUR" }, 2, "en"), "€12.50");
  assert.equal(formatMoney({ amount: 1250, currency: "EUR" }, 2, "de"), "12,50\u00a0€");
  assert.equal(formatMoney({ amount: 1250, currency: "JPY" }, 0, "en"), "¥1,250");
  assert.equal(formatMoney({ amount: 1250, currency: "BHD" }, 3, "en"), "BHD\u00a01.250");
  assert.equal(formatMoney({ amount: 1250, currency: "PTS" }, 0, "de"), "1.250\u00a0PTS");
  assert.equal(formatMoney({ amount: 1250, currency: "POINTS" }, 0, "en"), "1,250 POINTS");
  assert.equal(formatMoney({ amount: Number.MAX_SAFE_INTEGER, currency: "EUR" }, 2, "en"), "€90,071,992,547,409.91");
});

test("a sign is shown where one is wanted, and never at zero", () => {
  assert.equal(formatMoney({ amount: 100, currency: "EUR" }, 2, "en", true), "+€1.00");
  assert.equal(formatMoney({ amount: -100, currency: "EUR" }, 2, "en", true), "-€1.00");
  assert.equal(formatMoney({ amount: 0, currency: "EUR" }, 2, "en", true), "€0.00");
});

test("the parts of an amount put together are the amount", () => {
  for (const language of ["en", "de", "fr"]) {
    for (const [currency, scale] of [
      ["EUR", 2],
      ["JPY", 0],
      ["KWD", 3],
      ["POINTS", 0],
    ] as const) {
      const money = { amount: 123456, currency };
      const { whole, fraction, after } = amountParts(money, scale, language);
      assert.equal(whole + fraction + after, formatMoney(money, scale, language));
    }
  }
});

const READ: [string, number, string, number | AmountFault][] = [
  ["12.50", 2, "en", 1250],
  ["12,50", 2, "en", 1250],
  ["12,50", 2, "de", 1250],
  ["12.50", 2, "de", 1250],
  ["12", 2, "en", 1200],
  [".5", 2, "en", 50],
  ["12.", 2, "en", 1200],
  ["1,234.56", 2, "en", 123456],
  ["1.234,56", 2, "de", 123456],
  ["1'234.56", 2, "de-CH", 123456],
  ["1 234,56", 2, "fr", 123456],
  ["1,234,567", 2, "en", 123456700],
  ["1,234", 2, "en", 123400],
  ["1.234", 2, "de", 123400],
  ["1.234", 2, "en", "precise"],
  ["1,234", 2, "de", "precise"],
  ["1.234", 3, "en", 1234],
  ["1,234", 3, "en", 1234],
  ["5", 0, "en", 5],
  ["5.0", 0, "en", "precise"],
  ["", 2, "en", "empty"],
  ["  ", 2, "en", "empty"],
  ["five", 2, "en", "malformed"],
  ["-5", 2, "en", "malformed"],
  ["1e3", 2, "en", "malformed"],
  ["1.2.3", 2, "en", "malformed"],
  ["1,23,456", 2, "en", "malformed"],
  ["1.234.56", 2, "en", "malformed"],
  ["1,2.345,6", 2, "en", "malformed"],
  [".", 2, "en", "malformed"],
  ["90071992547409.91", 2, "en", 9007199254740991],
  ["90071992547409.92", 2, "en", "large"],
];

for (const [typed, scale, language, wanted] of READ) {
  test(`“${typed}” at scale ${scale} in ${language} is ${wanted}`, () => {
    assert.equal(parseAmount(typed, scale, language), wanted);
  });
}

test("what is shown can be typed again", () => {
  for (const language of ["en", "de", "fr", "de-CH"])
    for (const scale of [0, 2, 3])
      for (const amount of [1, 99, 100, 12345, 123456789, 1000000]) {
        const shown = new Intl.NumberFormat(language, {
          minimumFractionDigits: scale,
          maximumFractionDigits: scale,
        }).format(decimal(amount, scale) as Intl.StringNumericLiteral);
        assert.equal(parseAmount(shown, scale, language), amount, `${shown} in ${language}`);
      }
});
