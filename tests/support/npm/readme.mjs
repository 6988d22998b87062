// All that the README of the vendor's JavaScript client shows, against the sandbox at that address.
// Each line on stdout is JSON: the name of an answer, and the answer.
//
//     node readme.mjs http://127.0.0.1:1234/v1 KEY
import { LlamaGenClient, SUPPORTED_COMIC_SIZES } from 'comic';

const [baseURL, apiKey] = process.argv.slice(2);
const soon = { intervalMs: 5, timeoutMs: 20000 };
const say = (name, value) => console.log(JSON.stringify([name, value]));

const llamagen = new LlamaGenClient({ apiKey, baseURL, timeoutMs: 20000 });

// Quick start.
const created = await llamagen.comic.create({
  prompt: 'A 4-panel comic about Leo finding a glowing key in a quiet library.',
  style: 'manga',
  fixPanelNum: 4,
});
say('created', created);
say('done', await llamagen.comic.waitForCompletion(created.id, soon));

// Comic API.
const generation = await llamagen.comic.create({
  prompt: 'The Little Prince meets the Fox in a luminous desert.',
  style: 'storybook manga',
  size: '1024x1024',
  pagination: { totalPages: 2, panelsPerPage: 4 },
  comicRoles: [
    {
      name: 'The Little Prince',
      image: 'https://example.com/prince.png',
      clothing: 'green coat and yellow scarf',
    },
  ],
  comicLocations: [{ name: 'Dreamwood Forest', image: 'https://example.com/forest.png' }],
  attachments: [{ type: 'image', url: 'https://example.com/reference.png' }],
  language: 'en',
  upscale: '2K',
});
say('pages', await llamagen.comic.waitForCompletion(generation.id, soon));
say('one panel', await llamagen.comic.get(generation.id, { page: 1, panel: 2 }));
say('continuing', await llamagen.comic.continueWrite(generation.id, { prompt: 'A secret room.' }));
say('continued', await llamagen.comic.waitForCompletion(generation.id, soon));
for (const change of [
  { panel: 0, prompt: 'Make the key brighter.' },
  { panelIndex: 1, pageIndex: 1, panelPrompt: 'Moonlight.' },
  { panel_index: 2, page_index: 0, panel_prompt: 'Rain.' },
  { panel: 0, page: 0, images: ['https://example.com/1.png'] },
  { panel: 0, page: 0, images_url: 'https://example.com/1.png' },
  { panel: 0, page: 1, caption: 'The end?' },
]) {
  await llamagen.comic.updatePanel(generation.id, change);
  await llamagen.comic.waitForCompletion(generation.id, soon);
}
say('redrawn', await llamagen.comic.get(generation.id));
say('usage', await llamagen.comic.usage());
const picture = new Blob([new Uint8Array([137, 80, 78, 71])], { type: 'image/png' });
say('upload', await llamagen.comic.upload(picture, 'reference.png'));
say('created and waited', await llamagen.comic.createAndWait({ prompt: 'A robot.' }, soon));
const batch = await llamagen.comic.createBatch(
  SUPPORTED_COMIC_SIZES.map((size) => ({ prompt: `A cat in ${size}`, size, fixPanelNum: 1 })),
  { concurrency: 3 },
);
say('batch', batch.map(({ error }) => error ?? null));
const ids = batch.map(({ result }) => result.id);
say('many', await llamagen.comic.waitForMany(ids, { concurrency: 3, ...soon }));

// The older names.
const old = await llamagen.comics.createComic({ prompt: 'A hat.' });
await llamagen.comics.waitForCompletion(old.id, soon);
await llamagen.comics.continueComic(old.id, { prompt: 'And a cat.', fixPanelNum: 2 });
await llamagen.comics.waitForCompletion(old.id, soon);
await llamagen.comics.regeneratePanel(old.id, { panel: 0, prompt: 'A larger hat.' });
await llamagen.comics.waitForCompletion(old.id, soon);
await llamagen.comics.updateComicPanel(old.id, { panel: 1, caption: 'Meow.' });
await llamagen.comics.waitForCompletion(old.id, soon);
say('older names', await llamagen.comics.getComic(old.id));

// Animation API.
const videoOptions = {
  duration: 5,
  resolution: '720p',
  aspect_ratio: '16:9',
  image: 'https://example.com/first-frame.png',
  last_frame_image: 'https://example.com/last-frame.png',
  reference_images: ['https://example.com/character.png'],
};
const fox = { prompt: 'A heroic fox detective walks through neon rain.', videoOptions };
const video = await llamagen.animation.create(fox);
say('animation', await llamagen.animation.get(video.id));
say('animated', await llamagen.animation.waitForCompletion(video.id, soon));
say('animated at once', await llamagen.animations.createAndWait(fox, soon));

// Direct fetch.
const response = await fetch(`${baseURL}/comics/generations`, {
  method: 'POST',
  headers: { Authorization: `Bearer ${apiKey}`, 'Content-Type': 'application/json' },
  body: JSON.stringify({ prompt: 'A superhero cat.', style: 'american comic', fixPanelNum: 4 }),
});
say('fetched', await response.json());

// Errors.
const caught = async (call) => {
  try {
    return [await call(), 'nothing'];
  } catch (error) {
    return [error.constructor.name, error.status ?? null, error.data ?? null];
  }
};
say('unknown id', await caught(() => llamagen.comic.get('nobody')));
const nobody = new LlamaGenClient({ apiKey: 'nobody', baseURL });
say('unknown key', await caught(() => nobody.comic.usage()));
const never = { intervalMs: 1, timeoutMs: 1, doneStatuses: ['NEVER'] };
say('timeout', await caught(() => llamagen.comic.waitForCompletion(created.id, never)));
