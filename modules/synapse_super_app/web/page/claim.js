// Carries what stands behind the # of this page's address on to the wallet, so that nobody has to copy it. It is sent nowhere.
"use strict";

const link = document.querySelector(".enter .button");
if (link !== null && location.hash.length > 1)
  link.href = `../app/#/claim?link=${encodeURIComponent(location.href)}`;
