// Amounts are whole numbers of the smallest unit. No fraction is ever computed with: text is cut and put together.

export interface Money {
  amount: number;
  currency: string;
}

export const LARGEST = Number.MAX_SAFE_INTEGER;

/** The amount as a decimal number, with a point: 1250 at scale 2 is "12.50". */
export function decimal(amount: number, scale: number): string {
  const digits = String(Math.abs(amount)).padStart(scale + 1, "0");
  const sign = amount < 0 ? "-" : "";
  if (scale === 0) return sign + digits;
  return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

function isIso(currency: string): boolean {
  return /^[A-Z]{3}$/.test(currency);
}

function formatter(currency: string, scale: number, language: string, sign: boolean): Intl.NumberFormat {
  const digits = { minimumFractionDigits: scale, maximumFractionDigits: scale };
  const signDisplay = sign ? "exceptZero" : "auto";
  if (isIso(currency)) {
    try {
      return new Intl.NumberFormat(language, { style: "currency", currency, ...digits, signDisplay });
    } catch {
      // A code of the operator's own that has the form of a currency and is none.
    }
  }
  return new Intl.NumberFormat(language, { ...digits, signDisplay });
}

export interface AmountParts {
  whole: string;
  fraction: string;
  after: string;
}

/** An amount cut into what is shown large, what is shown small, and what comes after it (a symbol or code). */
export function amountParts(money: Money, scale: number, language: string, sign = false): AmountParts {
  const format = formatter(money.currency, scale, language, sign);
  const parts = format.formatToParts(decimal(money.amount, scale) as Intl.StringNumericLiteral);
  const cut = parts.findIndex((part) => part.type === "decimal");
  let lastDigit = parts.length;
  while (lastDigit > 0 && !["integer", "fraction"].includes(parts[lastDigit - 1]?.type ?? "")) lastDigit -= 1;
  const text = (from: number, to: number) =>
    parts
      .slice(from, to)
      .map((part) => part.value)
      .join("");
  const code = parts.some((part) => part.type === "currency") ? "" : ` ${money.currency}`;
  return {
    whole: text(0, cut < 0 ? lastDigit : cut),
    fraction: cut < 0 ? "" : text(cut, lastDigit),
    after: text(lastDigit, parts.length) + code,
  };
}

export function formatMoney(money: Money, scale: number, language: string, sign = false): string {
  const { whole, fraction, after } = amountParts(money, scale, language, sign);
  return whole + fraction + after;
}

export type AmountFault = "empty" | "malformed" | "precise" | "large";

/**
 * What a person typed, in the smallest unit.
 *
 * Both a point and a comma may part the fraction; what could mean two amounts is refused rather than guessed at.
 */
export function parseAmount(typed: string, scale: number, language: string): number | AmountFault {
  const text = typed.replace(/[\s'’\u00a0\u202f]/gu, "");
  if (text === "") return "empty";
  if (!/^[0-9.,]+$/.test(text) || !/[0-9]/.test(text)) return "malformed";
  const cut = fractionAt(text, scale, language);
  if (cut === "malformed") return "malformed";
  const whole = text.slice(0, cut);
  const fraction = text.slice(cut + 1);
  const groups = whole.split(/[.,]/);
  const grouped = groups.length > 1;
  if (grouped && (groups[0] === "" || groups.slice(1).some((group) => group.length !== 3))) return "malformed";
  if (grouped && new Set(whole.replace(/[0-9]/g, "")).size > 1) return "malformed";
  if (/[.,]/.test(fraction)) return "malformed";
  if (fraction.length > scale) return "precise";
  const amount = BigInt(groups.join("") + fraction.padEnd(scale, "0"));
  if (amount > BigInt(LARGEST)) return "large";
  return Number(amount);
}

/** Where the sign before the fraction stands; the length of the text if there is no fraction. */
function fractionAt(text: string, scale: number, language: string): number | "malformed" {
  const last = Math.max(text.lastIndexOf("."), text.lastIndexOf(","));
  if (last < 0) return text.length;
  const sign = text.charAt(last);
  const other = sign === "." ? "," : ".";
  const times = text.split(sign).length - 1;
  if (text.includes(other)) return times === 1 ? last : "malformed";
  if (times > 1) return text.length;
  if (text.length - last - 1 !== 3) return last;
  // "1.234": the sign says by the language whether it groups. Where three digits are a fraction too, so does it.
  const groups = new Intl.NumberFormat(language).formatToParts(12345.6).find((part) => part.type === "group")?.value;
  return groups === sign && scale !== 3 ? text.length : last;
}
