// Which PINs are taken. The realms count guesses; what they cannot help against is a PIN that comes among the first ten.

export type Verdict = "digits" | "common" | "short" | "good";

const COMMON = new Set([
  "1004", "1010", "1122", "1212", "1313", "1342", "1478", "2468", "2580", "4321", "5683", "6969", "7410", "8520", "0852",
  "0070", "1147", "2001", "2020", "2021", "2022", "2023", "2024", "2025", "2026",
  "112233", "121212", "123123", "123321", "131313", "147258", "147852", "159753", "159357", "202020", "252525", "258036",
  "246810", "314159", "456456", "520131", "654123", "696969", "741852", "789456", "852456", "963852", "142536", "102030",
  "101010", "111222", "112211", "123654", "147369", "258369", "321654", "456123", "456789", "741963", "789123", "963258",
]); // prettier-ignore
const RISING = "01234567890";

/** ``short`` is allowed, with a warning: four digits have ten thousand possibilities, six have a million. */
export function judge(pin: string): Verdict {
  if (!/^[0-9]{4}$|^[0-9]{6}$/.test(pin)) return "digits";
  const falling = [...RISING].reverse().join("");
  if (RISING.includes(pin) || falling.includes(pin) || COMMON.has(pin)) return "common";
  // One digit, two digits in turn or in blocks, three and three again, and the same backwards.
  if (new Set(pin).size <= 2 || pin === [...pin].reverse().join("")) return "common";
  const half = pin.length / 2;
  if (pin.slice(0, half) === pin.slice(half)) return "common";
  if (isDate(pin)) return "common";
  return pin.length === 4 ? "short" : "good";
}

/** Years that somebody may be born in; days as DDMMYY, MMDDYY or YYMMDD. */
function isDate(pin: string): boolean {
  if (pin.length === 4)
    return /^(19|20)/.test(pin) || isDay(pin.slice(0, 2), pin.slice(2)) || isDay(pin.slice(2), pin.slice(0, 2));
  const [one, two, three] = [pin.slice(0, 2), pin.slice(2, 4), pin.slice(4)];
  return isDay(one, two) || isDay(two, one) || isDay(three, two);
}

function isDay(day: string, month: string): boolean {
  return Number(day) >= 1 && Number(day) <= 31 && Number(month) >= 1 && Number(month) <= 12;
}
