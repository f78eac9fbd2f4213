// The page in a real browser, over a real `guichet serve`:  node page.mjs PROGRAM   (PROGRAM `mock`: the stand-in)
import {readFile} from 'node:fs/promises';
import assert from 'node:assert/strict';
import {axe, drawPhoto, launch, photoSite, runTests, serve, until} from './harness.mjs';
import {choose, closing, opener} from './pages.mjs';

const program = process.argv[2] || 'mock';
const browser = await launch();
const {base, stop} = await serve(program);
const photo = await drawPhoto(browser);
const png = await drawPhoto(browser, 'image/png');
const site = await photoSite(photo);
const complaints = []; // console errors and requests to elsewhere; must stay empty

const open = opener(browser, base, [site.base], complaints);
const test = (name, body, options) => [name, async () => closing(await open(options), body)];

async function answer(page) {
  await page.waitForSelector('#ticket[data-state="result"], #ticket[data-state="error"]', {timeout: 60000});
  assert.equal(await page.getAttribute('#ticket', 'data-state'), 'result', await page.textContent('#error'));
  return page.textContent('#sentence');
}

// What the service itself says of the same bytes.
async function category(bytes, type = 'image/jpeg', query = '') {
  const response = await fetch(`${base}/predict${query}`, {method: 'POST', headers: {'Content-Type': type}, body: bytes});
  assert.equal(response.status, 200);
  return (await response.json()).predictions[0].label;
}

const fold = (text) => text.toLowerCase();

async function assertAnswers(page, expected) {
  const sentence = await answer(page);
  assert.ok(fold(sentence).includes(fold(expected)), `"${sentence}" should speak of ${expected}`);
}

const give = (page, bytes = photo, name = 'photo.jpg', mimeType = 'image/jpeg') =>
  page.setInputFiles('#file', {name, mimeType, buffer: bytes});

// Hand bytes to the page as a drop or a paste does.
async function transfer(page, kind, bytes, type) {
  await page.evaluate(([event, text, mime]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], 'photo', {type: mime}));
    const init = {bubbles: true, cancelable: true};
    const made = event === 'drop' ? new DragEvent('drop', {...init, dataTransfer: data})
      : new ClipboardEvent('paste', {...init, clipboardData: data});
    (event === 'drop' ? document.getElementById('pane') : document.body).dispatchEvent(made);
  }, [kind, bytes.toString('base64'), type]);
}

const source = axe();
if (!source) console.log('# axe-core is not installed (make test does): its tests are left out');

async function assertAccessible(page, state) {
  await page.evaluate(source);
  const found = await page.evaluate(async () => (await window.axe.run()).violations.map(({id, nodes}) => [id, ...nodes.slice(0, 3).map((node) => node.html)]));
  assert.deepEqual(found, [], state);
}

async function tabTo(page, selector) {
  for (let presses = 0; presses < 40; presses++) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
  }
  assert.fail(`Tab never reaches ${selector}`);
}

const names = async () => (await (await fetch(`${base}/models`)).json()).slice(0, 2);

const tests = [
  test('a dropped photo is answered in a sentence, with five bars and the time', async (page) => {
    await transfer(page, 'drop', photo, 'image/jpeg');
    await assertAnswers(page, await category(photo));
    assert.equal(await page.locator('#bars li').count(), 5);
    assert.match(await page.textContent('#bars li:first-child .bar-value'), /%/);
    assert.match(await page.textContent('#stub'), /\d.*ms/);
    assert.ok(await page.evaluate(() => document.getElementById('photo').naturalWidth > 0), 'the photo is shown');
    assert.equal(await page.textContent('#live'), await page.textContent('#sentence'), 'it is read out');
  }),
  test('a chosen file is answered', async (page) => {
    await give(page);
    await assertAnswers(page, await category(photo));
  }),
  test('a pasted image is answered', async (page) => {
    await transfer(page, 'paste', png, 'image/png');
    await assertAnswers(page, await category(png, 'image/png'));
  }),
  test('an image that only the browser can read is answered too', async (page) => {
    const drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"><circle cx="150" cy="100" r="80" fill="#a52"/></svg>';
    await give(page, Buffer.from(drawing), 'drawing.svg', 'image/svg+xml');
    await answer(page);
  }),
  test('who has no photo at hand can show the page\'s own', async (page) => {
    await page.click('#sample');
    assert.match(await answer(page), /cat/i);
  }),
  test('the camera takes a photo', async (page) => {
    await page.click('#camera');
    await until('a picture', () => page.evaluate(() => document.getElementById('camera-video').videoWidth > 0));
    await page.click('#camera-shoot');
    await answer(page);
    assert.equal(await page.isVisible('#camera-dialog'), false);
  }, {permissions: ['camera']}),
  test('the keyboard alone is enough: an address, the answer, the language', async (page) => {
    await tabTo(page, '#url');
    await page.keyboard.type(`${site.base}/photo.jpg`);
    await page.keyboard.press('Enter');
    await answer(page);
    await tabTo(page, '#recent-clear');
    await page.keyboard.press('Enter');
    await until('the list to go', async () => !(await page.isVisible('#recent')));
    await page.reload();
    await tabTo(page, '#models-button');
    await page.keyboard.press('Enter');
    await tabTo(page, '.model');
    await page.keyboard.press('Escape');
    assert.equal(await page.isVisible('#models-panel'), false);
    await tabTo(page, '[data-language="fr"]');
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, 'none', 'focus is visible');
    await page.keyboard.press('Enter');
    assert.match(await page.textContent('h1'), /Montrez/);
  }),
  test('it speaks the browser\'s language, and remembers another that was chosen', async (page) => {
    assert.match(await page.textContent('h1'), /Montrez/);
    await give(page);
    await assertAnswers(page, await category(photo, 'image/jpeg', '?lang=fr'));
    await page.click('[data-language="en"]');
    await until('English', async () => (await page.getAttribute('html', 'lang')) === 'en');
    await assertAnswers(page, await category(photo));
    await page.reload();
    assert.match(await page.textContent('h1'), /Show a photo/);
  }, {locale: 'fr-FR'}),
  ['two people with two choices do not disturb each other, and a reload keeps each', async () => {
    const [first, second] = await names();
    await closing(await open(), async (one) => closing(await open(), async (other) => {
      await choose(one, first);
      await choose(other, second);
      await Promise.all([one.reload(), other.reload()]);
      for (const [page, name] of [[one, first], [other, second]]) {
        await until('the choice', async () => (await page.textContent('#models-name')) === name);
        await give(page);
        await answer(page);
        assert.ok((await page.textContent('#stub')).includes(name), `${name} answers`);
      }
    }));
  }],
  test('choosing another model asks it about the same photo', async (page) => {
    const [, second] = await names();
    await give(page);
    await answer(page);
    await choose(page, second);
    await until('its answer', async () => (await page.textContent('#stub')).includes(second), 60);
  }),
  test('what a model knows is one click away, and can be searched, in both languages', async (page) => {
    await page.click('#knows-open');
    await until('the classes', async () => (await page.locator('#knows-list li').count()) === 59);
    assert.match(await page.textContent('#knows-licence'), /mit/);
    await page.fill('#knows-search', 'CHIMPANZÉ');
    assert.deepEqual(await page.locator('#knows-list li').allTextContents(), ['chimpanzee']);
    assert.match(await page.textContent('#knows-count'), /^1 of 59/);
    assert.match(await page.textContent('#knows-card'), /Tiny ImageNet/);
    await page.click('#knows-close');
    await page.click('[data-language="fr"]');
    await page.click('#knows-open');
    await page.fill('#knows-search', 'etoile');
    await until('the French list', async () => /^0 cat/.test(await page.textContent('#knows-count')));
    await page.fill('#knows-search', 'elephant');
    assert.deepEqual(await page.locator('#knows-list li').allTextContents(), ['éléphant d\'Afrique']);
  }),
  test('the last photos are renamed with the language', async (page) => {
    await page.click('#sample');
    await answer(page);
    await until('the English name', async () => /cat/.test(await page.textContent('.shot-label')));
    const english = await page.textContent('.shot-label');
    await page.click('[data-language="fr"]');
    await until('the French name', async () => /chat/.test(await page.textContent('.shot-label')));
    await page.click('[data-language="en"]');
    await until('the English name again', async () => (await page.textContent('.shot-label')) === english);
  }),
  test('many photos are answered in a grid, and kept as a table', async (page) => {
    await page.setInputFiles('#file', [{name: 'a,b.jpg', mimeType: 'image/jpeg', buffer: photo}, {name: 'c.png', mimeType: 'image/png', buffer: png},
      {name: 'letter.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('no photo')}]);
    await until('the answers', async () => (await page.textContent('#grid-count')).startsWith('3 of 3'));
    assert.equal(await page.locator('#grid-list li').count(), 3);
    assert.equal(await page.locator('#grid-list li[data-state="error"]').count(), 1);
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#grid-csv')]);
    const lines = (await readFile(await download.path(), 'utf8')).split('\r\n');
    assert.equal(lines[0], '\ufeffimage,model,known,label,probability,error');
    assert.match(lines[1], /^"a,b.jpg",animals,(yes|perhaps|no),.+,0\.\d+,$/);
    assert.match(lines[3], /^letter.jpg,,,,,.+/);
    const cells = await page.evaluate(async () => (await import('/assets/grid.js')).cell('=1+"2"'));
    assert.equal(cells, `"'=1+""2"""`);
    await page.click('#grid-clear');
    assert.equal(await page.isVisible('#grid'), false);
  }, {expected: [400, 415]}),
  test('what is too large is made smaller, and a data: address is a photo', async (page) => {
    const sizes = await page.evaluate(async () => {
      const {fromFile, fromAddress} = await import('/assets/photo.js');
      const canvas = Object.assign(document.createElement('canvas'), {width: 6100, height: 4000});
      const large = await new Promise((resolve) => canvas.toBlob(resolve, 'image/jpeg'));
      const measure = async ({blob}) => createImageBitmap(blob).then((bitmap) => [blob.type, bitmap.width, bitmap.height]);
      const small = Object.assign(document.createElement('canvas'), {width: 30, height: 20}).toDataURL('image/png');
      const heavy = new File([large, new Uint8Array(21e6)], 'heavy.jpg', {type: 'image/jpeg'});
      const refused = await fromFile(new File(['x'], 'IMG_1.HEIC', {type: ''})).catch((error) => error.kind);
      return [await measure(await fromFile(large)), await measure(await fromFile(heavy)), await measure(await fromAddress(small)),
        (await fromAddress(' www.example.org/cat.jpg')).url, await fromAddress('data:text/html,x').catch((error) => error.kind), refused];
    });
    assert.deepEqual(sizes, [['image/jpeg', 2000, 1311], ['image/jpeg', 2000, 1311], ['image/png', 30, 20],
      'https://www.example.org/cat.jpg', 'address', 'phone']);
  }),
  test('a reload keeps the answer, and a photo that has an address has a link', async (page) => {
    await give(page);
    const sentence = await answer(page);
    await page.reload();
    assert.equal(await answer(page), sentence);
    await page.fill('#url', `${site.base}/photo.jpg`);
    await page.press('#url', 'Enter');
    await until('the link', async () => page.url().includes('?url='));
    await answer(page);
    const link = page.url();
    await page.goto(base);
    await page.goto(link);
    await assertAnswers(page, await category(photo));
    assert.equal(page.url(), link);
  }),
  test('a choice in one tab is a choice in all', async (page) => {
    const [first, second] = await names();
    const other = await page.context().newPage();
    await other.goto(base);
    await until('the models', async () => (await other.textContent('#models-name')) === first);
    await choose(page, second);
    await until('the choice there', async () => (await other.textContent('#models-name')) === second);
  }),
  test('models are compared side by side', async (page) => {
    await give(page);
    await answer(page);
    await page.click('#compare-start');
    await until('both answers', async () => (await page.locator('#compare-results .bars').count()) >= 2, 60);
    assert.match(await page.textContent('#compare-verdict'), /agree/);
    assert.match(await page.textContent('#compare-results .card-time'), /\d/);
  }),
  test('what is no photo gets a sentence and the reason, and the next photo works', async (page) => {
    await give(page, Buffer.from('this is a letter, and no photo at all'), 'letter.jpg');
    await page.waitForSelector('#ticket[data-state="error"]');
    assert.match(await page.textContent('#error-line'), /doesn’t look like a photo/);
    assert.ok((await page.textContent('#error-reason')).length > 5);
    assert.equal(await page.isVisible('#retry'), false, 'to try again would change nothing');
    assert.equal(await page.isVisible('#empty'), true, 'the window is free for the next');
    assert.equal(await page.getAttribute('#error', 'role'), 'alert');
    await page.click('[data-language="fr"]');
    assert.match(await page.textContent('#error-line'), /ne ressemble pas/);
    await give(page);
    await answer(page);
  }, {expected: [400, 415]}),
  test('an address that leads nowhere, and one that is none, are explained', async (page) => {
    await page.fill('#url', 'tabby cat');
    await page.press('#url', 'Enter');
    await page.waitForSelector('#ticket[data-state="error"]');
    assert.match(await page.textContent('#error-line'), /address/);
    await page.fill('#url', `${site.base}/missing.jpg`);
    await page.press('#url', 'Enter');
    await until('the reason', async () => /hand it over/.test(await page.textContent('#error-line')));
  }, {expected: [404, 502]}),
  test('a choice that is not allowed is told as that, with the reason, in both languages', async (page) => {
    const [, second] = await names();
    await page.route('**/model/*', (route) => route.fulfill({status: 403, json: {error: 'a page of another origin'}}));
    await page.click('#models-button');
    await page.click(`.model:has(.model-name:text-is("${second}"))`);
    await page.waitForSelector('#ticket[data-state="error"]');
    assert.match(await page.textContent('#error-line'), /does not let you/);
    assert.match(await page.textContent('#error-reason'), /another origin/);
    await page.click('[data-language="fr"]');
    assert.match(await page.textContent('#error-line'), /ne vous le permet pas/);
  }, {expected: [403]}),
  test('the last photos of the tab outlive a reload, come back at a click, and can be cleared', async (page) => {
    await give(page);
    const sentence = await answer(page);
    await until('the list', () => page.isVisible('#recent-list img'));
    await page.reload();
    await page.click('#recent-list button');
    assert.equal(await answer(page), sentence);
    await page.click('#recent-clear');
    await page.reload();
    assert.equal(await page.isVisible('#recent'), false);
  }),
  test('probabilities become words, in both languages', async (page) => {
    const said = await page.evaluate(async () => {
      const {sentence} = await import('/assets/answer.js');
      const {setLanguage} = await import('/assets/texts.js');
      const say = (first, probability, second = 'lion') =>
        sentence([{label: first, probability}, {label: second, probability: 0.1}]).replace('\u2060', '').replace('\u00a0', ' ');
      const all = {};
      for (const [language, label] of [['en', 'ox'], ['fr', 'ours brun']]) {
        setLanguage(language);
        all[language] = [0.99, 0.85, 0.6, 0.3, 0.1].map((probability) => say(label, probability));
      }
      setLanguage('fr');
      all.unknown = ['no', 'perhaps', 'yes'].map((known) => sentence([{label: 'oie', probability: 0.9}, {label: 'pie', probability: 0.05}], false, known).replace(/\u2060/g, '').replace('\u00a0', ' '));
      setLanguage('en');
      all.unknown.push(sentence([{label: 'goose', probability: 0.9}], false, 'no'));
      return {...all, articles: ['ox', 'unicorn', 'golden retriever', 'praying mantis', 'jeans'].map((label) => say(label, 0.6))};
    });
    assert.deepEqual(said.en, ['That’s an ox, no doubt about it.', 'That’s an ox, almost certainly.', 'Most likely an ox.',
      'Perhaps an ox, or else a lion.', 'Hard to say. The nearest guess: ox.']);
    assert.deepEqual(said.fr, ['Ours brun, sans hésiter.', 'Ours brun, presque à coup sûr.', 'Ours brun, probablement.',
      'Ours brun, peut-être, ou bien lion.', 'Difficile à dire. Le plus proche : ours brun.']);
    assert.deepEqual(said.unknown, ['Je ne connais pas cela. Le plus proche de ce que je connais : oie.',
      'Oie, peut-être, ou bien pie.', 'Oie, presque à coup sûr.', 'I don’t know this. The nearest of what I know: goose.']);
    assert.deepEqual(said.articles, ['Most likely an ox.', 'Most likely a unicorn.', 'Most likely a golden retriever.',
      'Most likely a praying mantis.', 'Most likely jeans.']);
  }),
  test('nothing sticks out on a phone, nor on a very narrow one', async (page) => {
    await give(page);
    await answer(page);
    for (const width of [390, 360, 320]) {
      await page.setViewportSize({width, height: 700});
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(over <= 0, `${over} px too wide at ${width}`);
    }
  }, {viewport: {width: 390, height: 844}, isMobile: true, hasTouch: true, locale: 'fr-FR'}), // the longer words
  test('the API\'s page lays the description out, and its form calls the service', async (page) => {
    await page.waitForSelector('.operation');
    assert.ok(await page.locator('.operation').count() >= 5);
    const models = page.locator('.operation', {has: page.locator('code', {hasText: /^\/models$/})}).first();
    await models.locator('summary').click();
    await models.locator('button[type="submit"]').click();
    await until('the reply', async () => /200[^]*animals/.test(await models.locator('.try pre').textContent()));
  }, {path: '/docs'}),
  test('everything that can be used has a name', async (page) => {
    const nameless = await page.evaluate(() => [...document.querySelectorAll('button, a, input:not([tabindex="-1"])')]
      .filter((node) => !(node.textContent.trim() || node.getAttribute('aria-label') || (node.labels && node.labels.length)))
      .map((node) => node.outerHTML));
    assert.deepEqual(nameless, []);
  }),
  ...(source ? ['light', 'dark'] : []).flatMap((colorScheme) => [{width: 1280, height: 800}, {width: 390, height: 844}].map((viewport) =>
    test(`axe finds nothing: ${colorScheme}, ${viewport.width} px`, async (page) => {
      await assertAccessible(page, 'before a photo');
      await page.setInputFiles('#file', ['a.jpg', 'b.jpg'].map((name) => ({name, mimeType: 'image/jpeg', buffer: photo})));
      await until('the grid', async () => (await page.textContent('#grid-count')).startsWith('2 of 2'));
      await give(page);
      await answer(page);
      await assertAccessible(page, 'with an answer and a grid');
      await page.click('#models-button');
      await assertAccessible(page, 'with the menu');
      await page.keyboard.press('Escape');
      await page.click('#knows-open');
      await page.waitForSelector('#knows-list li');
      await page.click('#knows-card-box summary');
      await assertAccessible(page, 'with what the model knows');
      await page.click('#knows-close');
      await page.fill('#url', 'tabby cat');
      await page.press('#url', 'Enter');
      await page.waitForSelector('#ticket[data-state="error"]');
      await assertAccessible(page, 'with an error');
    }, {colorScheme, viewport, reducedMotion: 'reduce'}))),
  ['no console error, and nothing asked of anyone else', async () => assert.deepEqual(complaints, [])],
];

const failed = await runTests(tests);
await browser.close();
await site.stop();
await stop();
process.exit(failed ? 1 : 0);
