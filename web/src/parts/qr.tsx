// A QR code as one path of an SVG. Dark on light in every theme, since not every reader reads the other way round.

import encodeQR from "qr";

export function QrCode({ text, label }: { text: string; label: string }) {
  const bits = encodeQR(text, "raw", { ecc: "medium", border: 1 });
  let path = "";
  bits.forEach((row, y) => {
    row.forEach((dark, x) => {
      if (dark) path += `M${x} ${y}h1v1h-1z`;
    });
  });
  const size = bits.length;
  return (
    <svg
      class="qr"
      viewBox={`-2 -2 ${size + 4} ${size + 4}`}
      role="img"
      aria-label={label}
      shape-rendering="crispEdges"
    >
      <rect x="-2" y="-2" width={size + 4} height={size + 4} fill="#ffffff" rx="2" />
      <path d={path} fill="#161225" />
    </svg>
  );
}
