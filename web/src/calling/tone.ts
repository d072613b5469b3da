// What a ring sounds like. A page may only make a sound once somebody has touched it; before, it rings without.

const PITCHES_HZ = [587, 740] as const;
const EVERY_MS = 2_600;
const TONE_S = 0.35;
const LOUDNESS = 0.12;

/** Begin to ring; what comes back ends it. */
export function beginRinging(): () => void {
  const title = document.title;
  document.title = `☎ ${title}`;
  const sound = navigator.userActivation.hasBeenActive ? new AudioContext() : null;
  const ring = () => {
    navigator.vibrate?.([300, 150, 300]);
    if (sound === null) return;
    PITCHES_HZ.forEach((pitch, order) => {
      const tone = sound.createOscillator();
      const loudness = sound.createGain();
      const begin = sound.currentTime + order * TONE_S;
      tone.frequency.value = pitch;
      loudness.gain.setValueAtTime(0, begin);
      loudness.gain.linearRampToValueAtTime(LOUDNESS, begin + 0.03);
      loudness.gain.linearRampToValueAtTime(0, begin + TONE_S);
      tone.connect(loudness).connect(sound.destination);
      tone.start(begin);
      tone.stop(begin + TONE_S);
    });
  };
  ring();
  const timer = setInterval(ring, EVERY_MS);
  return () => {
    clearInterval(timer);
    document.title = title;
    void sound?.close();
  };
}
