// The list of images: thumbnails, names and counts, to search and to sort.

function makeList(place, images, chosen) {
  const list = place.querySelector("ol");
  const search = place.querySelector("#search");
  const order = place.querySelector("#order");
  const none = place.querySelector("#none");
  const many = images.length > 8;
  place.querySelector("#finding").hidden = !many;
  place.hidden = images.length < 2;
  document.body.classList.toggle("alone", images.length < 2);

  const items = images.map((image, number) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const picture = document.createElement("img");
    const words = document.createElement("span");
    const name = document.createElement("b");
    const count = document.createElement("small");
    button.type = "button";
    picture.alt = "";
    picture.loading = "lazy";
    picture.src = image.thumbnail;
    name.textContent = image.name;
    const frames = image.frames > 1 ? `, ${image.frames} frames` : "";
    count.textContent = `${image.objects} object${image.objects === 1 ? "" : "s"}${frames}`;
    button.title = image.remark ? `${image.name}: ${image.remark}` : image.name;
    item.classList.toggle("remarked", Boolean(image.remark));
    words.append(name, count);
    button.append(picture, words);
    button.addEventListener("click", () => chosen(number));
    item.append(button);
    return item;
  });

  let shown = [];
  function arrange() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = images
      .map((image, number) => number)
      .filter((number) => {
        const name = images[number].name.toLowerCase();
        return words.every((word) => name.includes(word));
      });
    if (order.value !== "name") {
      const way = order.value === "most" ? -1 : 1;
      shown.sort((a, b) => way * (images[a].objects - images[b].objects) || a - b);
    }
    list.replaceChildren(...shown.map((number) => items[number]));
    none.hidden = shown.length > 0;
  }
  search.addEventListener("input", arrange);
  order.addEventListener("change", arrange);
  arrange();

  return {
    mark(number) {
      items.forEach((item, each) => {
        const button = item.firstChild;
        if (each === number) button.setAttribute("aria-current", "true");
        else button.removeAttribute("aria-current");
      });
      items[number].scrollIntoView({ block: "nearest", inline: "nearest" });
    },
    // The image before or after, in the order of the list.
    beside(number, step) {
      const at = shown.indexOf(number);
      return shown[at < 0 ? 0 : Math.min(Math.max(at + step, 0), shown.length - 1)];
    },
  };
}
