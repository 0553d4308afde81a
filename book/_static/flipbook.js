/* Flipbooks: a slider and a button that plays the frames once. Everything else is the page's own. */
(() => {
  "use strict";
  const INTERVAL = 1100;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  function build(book, number) {
    const frames = [...book.querySelectorAll(":scope > .rc-frame")];
    const labels = frames.map(
      (frame) => frame.querySelector(".rc-frame-label")?.textContent.trim() ?? "");
    let current = 0;
    let timer = null;

    const controls = document.createElement("div");
    controls.className = "rc-controls";
    const button = document.createElement("button");
    button.type = "button";
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: "0", max: String(frames.length - 1), step: "1" });
    slider.setAttribute("aria-label", `Frame of animation ${number + 1}`);
    const output = document.createElement("output");
    controls.append(button, slider, output);
    book.append(controls);
    book.classList.add("rc-ready");

    function show(index) {
      current = index;
      frames.forEach((frame, i) => frame.classList.toggle("rc-current", i === index));
      slider.value = String(index);
      slider.setAttribute("aria-valuetext", labels[index] || `frame ${index + 1}`);
      output.textContent = labels[index] || `${index + 1} of ${frames.length}`;
    }
    function name() {
      button.textContent = timer === null ? "Play" : "Pause";
    }
    function stop() {
      window.clearInterval(timer);
      timer = null;
      name();
    }
    function play() {
      if (current === frames.length - 1) show(0);
      timer = window.setInterval(() => {
        show(current + 1);
        if (current === frames.length - 1) stop();
      }, INTERVAL);
      name();
    }
    button.addEventListener("click", () => (timer === null ? play() : stop()));
    slider.addEventListener("input", () => {
      stop();
      show(Number(slider.value));
    });
    const plays = book.classList.contains("rc-autoplay") && !calm.matches;
    show(plays ? 0 : frames.length - 1);  // what it came to, for whoever only looks; Play begins anew
    name();

    if (plays) {
      const once = new IntersectionObserver((entries) => {
        if (entries.some((entry) => entry.isIntersecting)) {
          once.disconnect();
          play();
        }
      }, { threshold: 0.6 });
      once.observe(book);
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".rc-flipbook").forEach(build);
  });
})();
