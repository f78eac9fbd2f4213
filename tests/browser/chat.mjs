// The chat in a real browser, before the stand-in of the service, then before a real one:  node chat.mjs [PROGRAM]
import assert from 'node:assert/strict';
import {launch, runTests, serve, talkFolder, until} from './harness.mjs';
import {choose, closing, opener} from './pages.mjs';

const browser = await launch();
const {base, stop} = await serve('mock');
const complaints = [];
const open = opener(browser, base, [], complaints);

const test = (name, body, {model = 'parrot', ...options} = {}) => [name, async () => closing(await open(options), async (page) => {
  await choose(page, model);
  await body(page);
})];

const isBusy = async (page) => (await page.getAttribute('#chat-messages', 'aria-busy')) !== 'false';

async function say(page, words) {
  await page.fill('#chat-input', words);
  await page.press('#chat-input', 'Enter');
}

async function ask(page, words) {
  await say(page, words);
  await page.waitForSelector('.message, .chat-error');
  await until('the answer', async () => !(await isBusy(page)));
  return words;
}

const messages = (page) => page.locator('.message .words').allInnerTexts();
const last = async (page) => (await messages(page)).at(-1);
const titles = (page) => page.locator('.talk-title').allInnerTexts();

const tests = [
  test('a language model brings the chat in place of the photo, and a classifier the photo again', async (page) => {
    assert.equal(await page.isVisible('#photo-side'), false);
    assert.equal(await page.isVisible('#chat-input'), true);
    assert.match(await page.textContent('h1'), /Say something/);
    await choose(page, 'animals');
    assert.equal(await page.isVisible('#chat-side'), false);
    assert.equal(await page.isVisible('#pane'), true);
    assert.match(await page.textContent('h1'), /Show a photo/);
    assert.equal(await page.locator('.pick:has-text("parrot")').count(), 0, 'no photo is compared by a language model');
  }),
  test('the page is turned between photos and conversation, each with the model that was chosen there', async (page) => {
    await choose(page, 'tales');
    await page.click('#sides [data-side="photo"]');
    await until('the photo', () => page.isVisible('#pane'));
    assert.equal(await page.textContent('#models-name'), 'animals');
    assert.equal(await page.getAttribute('#sides [data-side="photo"]', 'aria-pressed'), 'true');
    await page.click('#sides [data-side="chat"]');
    await until('the chat', () => page.isVisible('#chat-input'));
    assert.equal(await page.textContent('#models-name'), 'tales');
  }),
  test('an answer streams in, with its tokens and their rate, and the whole conversation is sent each time', async (page) => {
    const bodies = [];
    page.on('request', (request) => request.url().endsWith('/v1/chat/completions') && bodies.push(request.postDataJSON()));
    await ask(page, 'Hello');
    assert.deepEqual(await messages(page), ['Hello', 'You said: Hello']);
    assert.match(await page.textContent('#chat-status'), /^parrot · 3 tokens · \d.* tokens\/s$/);
    assert.equal(await page.textContent('#live'), 'You said: Hello', 'it is read out');
    await ask(page, 'Again');
    assert.deepEqual(bodies[1].messages.map(({role, content}) => `${role}: ${content}`),
      ['user: Hello', 'assistant: You said: Hello', 'user: Again']);
    assert.equal(bodies[1].model, 'parrot');
    assert.equal('temperature' in bodies[1], false, 'the usual temperature is the service\'s own');
  }),
  test('Enter sends, Shift+Enter begins a line, Escape stops the answer, and what came of it stays', async (page) => {
    await page.focus('#chat-input');
    await page.keyboard.type('one');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('two');
    await page.keyboard.press('Enter');
    await until('the answer', async () => /You said: one/.test(await last(page)) && !(await isBusy(page)));
    assert.equal((await messages(page))[0], 'one\ntwo');
    await say(page, 'long');
    await until('some words', async () => /word5/.test(await last(page)));
    await page.keyboard.press('Escape');
    await until('the stop', async () => !(await isBusy(page)));
    assert.match(await last(page), /Stopped here/);
    assert.doesNotMatch(await last(page), /word399/);
    assert.equal(await page.isVisible('#chat-send'), true);
  }),
  test('the stop button stops, too', async (page) => {
    await say(page, 'long');
    await until('some words', async () => /word3/.test(await last(page)));
    await page.click('#chat-stop');
    await until('the stop', async () => !(await isBusy(page)));
    assert.match(await last(page), /Stopped here/);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'chat-input');
  }),
  test('an answer is made again, and a message is changed with all that followed', async (page) => {
    await ask(page, 'first');
    await ask(page, 'second');
    await page.locator('.message:last-child .action', {hasText: 'Answer again'}).click();
    await until('the answer', async () => !(await isBusy(page)));
    assert.deepEqual(await messages(page), ['first', 'You said: first', 'second', 'You said: second']);
    await page.locator('.message').first().hover();
    await page.locator('.message').first().locator('.action', {hasText: 'Edit'}).click();
    await page.fill('.edit', 'other');
    await page.press('.edit', 'Escape');
    assert.equal((await messages(page)).length, 4, 'Escape leaves it as it was');
    await page.locator('.message').first().locator('.action', {hasText: 'Edit'}).click();
    await page.fill('.edit', 'other');
    await page.press('.edit', 'Enter');
    await until('the answer', async () => (await last(page)) === 'You said: other' && !(await isBusy(page)));
    assert.deepEqual(await messages(page), ['other', 'You said: other']);
  }),
  test('Markdown becomes elements, and nothing else', async (page) => {
    await ask(page, 'markdown');
    const words = page.locator('.message[data-role="assistant"] .words');
    assert.equal(await words.locator('h3 strong').innerText(), 'list');
    assert.equal(await words.locator('ol > li').count(), 2);
    assert.equal(await words.locator('ol ul > li').count(), 2);
    assert.deepEqual(await words.locator('a').evaluateAll((links) => links.map((link) => [link.href, link.rel, link.target])),
      [['https://example.org/a_(b)', 'noopener noreferrer nofollow', '_blank']]);
    assert.equal(await words.locator('img, script').count(), 0);
    assert.match(await words.innerText(), /<img src=x onerror=alert\(1\)>/);
    assert.deepEqual(await words.locator('td').allInnerTexts(), ['a|b is one', '12', 'snake_case_name', '3']);
    assert.equal(await words.locator('blockquote').innerText(), 'A quotation.');
    assert.equal(await words.locator('pre code').innerText(), 'def hello():\n    print("hello, **world**")');
    await words.locator('.copy').click();
    await until('the word', async () => (await words.locator('.copy').innerText()) === 'Copied');
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^def hello/);
  }, {permissions: ['clipboard-read', 'clipboard-write']}),
  test('hostile and unfinished Markdown is rendered in time, and as text', async (page) => {
    const [slowest, html] = await page.evaluate(async () => {
      const {markdown} = await import('/assets/markdown.js');
      const texts = ['*'.repeat(5000), '[a](b'.repeat(2000), '`'.repeat(4000), '> '.repeat(3000), '- '.repeat(3000), '**a *b '.repeat(1500),
        '| a '.repeat(2000) + '\n' + '| - '.repeat(2000), '![x](javascript:alert(1)) [y](data:text/html,z) [z](//evil.example) <script>1</script>',
        '```js\nunfinished', '[x](https://a.example "t) _a', '_'.repeat(4000), '\n'.repeat(5000), '  \t- a\n\t\t- b\n- c', 'https://'.repeat(900)];
      const node = document.createElement('div');
      let most = 0;
      for (const text of texts) {
        const before = performance.now();
        const made = markdown(text);
        most = Math.max(most, performance.now() - before);
        node.append(...made);
      }
      return [most, node.innerHTML];
    });
    assert.ok(slowest < 5000, `${slowest} ms`);
    assert.doesNotMatch(html, /<script|<img|href="(?!https?:)/);
    assert.match(html, /&lt;script&gt;/);
  }),
  test('a system prompt and a temperature are sent, and kept with the conversation', async (page) => {
    await page.click('#chat-settings summary');
    await page.fill('#chat-system', 'Be brief.');
    await page.locator('#chat-temperature').fill('1.3');
    await ask(page, 'repeat settings');
    assert.equal(await last(page), '[{"role":"system","content":"Be brief."},1.3]');
    await page.reload();
    await until('the conversation', async () => (await messages(page)).length === 2);
    await page.click('#chat-settings summary');
    assert.equal(await page.inputValue('#chat-system'), 'Be brief.');
    assert.match(await page.textContent('#chat-temperature-value'), /1.3/);
  }),
  test('conversations are kept in this browser, opened, renamed and deleted', async (page) => {
    await ask(page, 'about cats');
    await page.click('#chat-new');
    assert.equal(await page.isVisible('#chat-empty'), true);
    await ask(page, 'about dogs');
    assert.deepEqual(await titles(page), ['about dogs', 'about cats']);
    await page.click('.talk-title:text-is("about cats")');
    assert.deepEqual(await messages(page), ['about cats', 'You said: about cats']);
    await page.locator('.talk[data-current="true"] .action', {hasText: 'Rename'}).click();
    await page.fill('.rename', 'Felines');
    await page.press('.rename', 'Enter');
    await page.reload();
    await until('the list', async () => (await titles(page)).join() === 'about dogs,Felines');
    await page.click('.talk-title:text-is("Felines")');
    const remove = page.locator('.talk[data-current="true"] .action', {hasText: /elete/});
    await remove.click();
    assert.equal((await titles(page)).length, 2, 'one press is not enough');
    await remove.click();
    assert.deepEqual(await titles(page), ['about dogs']);
    assert.equal(await page.isVisible('#chat-empty'), true);
    const kept = await page.evaluate(() => Object.keys(localStorage));
    assert.deepEqual(kept.filter((key) => !['guichet-conversations', 'guichet-language'].includes(key)), []);
  }),
  test('a storage that holds nonsense does no harm', async (page) => {
    for (const value of ['{', '{"a": 1}', '[null, {"id": 1}, {"id": "x", "messages": [{"role": "system"}]}]']) {
      await page.evaluate((text) => localStorage.setItem('guichet-conversations', text), value);
      await page.reload();
      await until('the chat', () => page.isVisible('#chat-empty'));
      assert.deepEqual(await titles(page), []);
    }
  }),
  test('what a model thinks can be opened', async (page) => {
    await ask(page, 'think');
    assert.equal(await page.isVisible('.thinking p'), false);
    await page.click('.thinking summary');
    assert.equal(await page.innerText('.thinking p'), 'Let me see.');
  }),
  test('a model without a chat template goes on with a text', async (page) => {
    const paths = [];
    page.on('request', (request) => request.method() === 'POST' && paths.push(new URL(request.url()).pathname));
    await ask(page, 'Once upon a time');
    assert.deepEqual(await messages(page), ['Once upon a time', 'there was a parrot.']);
    assert.match(await page.getAttribute('#chat-input', 'placeholder'), /Once upon/);
    await ask(page, 'It');
    assert.deepEqual(paths, ['/v1/chat/completions', '/v1/completions', '/v1/completions'], 'it is asked once only');
  }, {model: 'stories', expected: [400]}),
  test('a model that sleeps is waited for, and says so', async (page) => {
    await say(page, 'wake up');
    await until('the line', async () => /tales is getting ready/.test(await page.textContent('#chat-status')));
    await until('the answer', async () => (await last(page)) === 'You said: wake up');
  }, {model: 'tales'}),
  test('a busy service and a stream that breaks are told as that, in both languages, and asked again', async (page) => {
    await ask(page, 'busy');
    assert.match(await page.textContent('.chat-error .error-line'), /queue/);
    assert.match(await page.textContent('.chat-error .error-reason'), /too many requests wait/);
    assert.equal(await page.getAttribute('.chat-error', 'role'), 'alert');
    await page.click('[data-language="fr"]');
    assert.match(await page.textContent('.chat-error .error-line'), /la queue/);
    await page.click('[data-language="en"]');
    await page.click('.chat-error .button');
    await until('the error again', async () => !(await isBusy(page)) && page.isVisible('.chat-error'));
    await page.click('#chat-new');
    await ask(page, 'break');
    assert.match(await last(page), /You said:/, 'what came stays');
    assert.match(await page.textContent('.chat-error .error-reason'), /the model was stopped/);
  }, {expected: [503]}),
  test('an answer goes to the conversation that asked, whatever is opened meanwhile', async (page) => {
    await ask(page, 'first');
    await page.click('#chat-new');
    await say(page, 'long');
    await until('some words', async () => /word3/.test(await last(page)));
    await page.click('.talk-title:text-is("first")');
    assert.deepEqual(await messages(page), ['first', 'You said: first']);
    await page.click('.talk-title:text-is("long")');
    await until('what came', async () => /word3[^]*Stopped here/.test(await last(page)));
  }),
  test('it speaks French', async (page) => {
    assert.match(await page.textContent('h1'), /Écrivez/);
    assert.equal(await page.innerText('#chat-send'), 'Envoyer');
    await ask(page, 'Bonjour');
    assert.match(await page.textContent('#chat-status'), /jetons/);
  }, {locale: 'fr-FR'}),
  test('nothing sticks out on a phone, nor on a very narrow one, and fingers can do all', async (page) => {
    await ask(page, 'markdown');
    await page.tap('#chat-list-box summary');
    await page.tap('#chat-settings summary');
    for (const width of [390, 360, 320]) {
      await page.setViewportSize({width, height: 700});
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(over <= 0, `${over} px too wide at ${width}`);
    }
    assert.equal(await page.isVisible('.message:first-child .actions'), true);
  }, {viewport: {width: 390, height: 844}, isMobile: true, hasTouch: true, locale: 'fr-FR'}),
  test('everything that can be used has a name', async (page) => {
    await ask(page, 'markdown');
    const nameless = await page.evaluate(() => [...document.querySelectorAll('#chat-side :is(button, a, input, textarea, summary)')]
      .filter((node) => !(node.textContent.trim() || node.getAttribute('aria-label') || (node.labels && node.labels.length)))
      .map((node) => node.outerHTML));
    assert.deepEqual(nameless, []);
  }),
  ['a real service answers, with and without a chat template', async () => {
    const folder = process.argv[2] && talkFolder();
    if (!folder) return; // no program, or nothing to write models with
    const real = await serve(process.argv[2], folder);
    try {
      await closing(await opener(browser, real.base, [], complaints)({expected: [400]}), async (page) => {
        assert.equal(await page.textContent('#models-name'), 'parrot', 'the first one, where there is no other');
        await ask(page, 'Hello');
        await ask(page, 'and again');
        assert.deepEqual(await messages(page), ['Hello', 'Good day. Café?', 'and again', 'Good day. Café?']);
        assert.match(await page.textContent('#chat-status'), /parrot · 8 tokens/);
        await choose(page, 'stories');
        await page.click('#chat-new');
        await ask(page, 'Once');
        assert.deepEqual(await messages(page), ['Once', 'Good day. Café?']);
      });
    } finally {
      await real.stop();
    }
  }],
  ['no console error, and nothing asked of anyone else', async () => assert.deepEqual(complaints, [])],
];

const failed = await runTests(tests);
await browser.close();
await stop();
process.exit(failed ? 1 : 0);
