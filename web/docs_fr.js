// The API's page in French: its own words, and what each operation is for. Details stay in English, and are marked so.

const GISTS = {
  predict: 'Que montre cette photo ?', predictWithModel: 'Interroger un modèle par son nom', hello: 'Y a-t-il quelqu’un ?',
  listModels: 'Les modèles qu’il y a', chooseModel: 'Choisir un modèle pour cette session', getSession: 'Le choix de cette session',
  getServerMetadata: 'Quel est ce serveur ?', getServerMetadataSlash: 'La même chose, comme certains clients la demandent',
  isServerLive: 'En vie ?', isServerReady: 'Prêt ?', listModelsV2: 'Les noms des modèles',
  getModelMetadata: 'Les entrées et sorties d’un modèle', getModelVersionMetadata: 'Les entrées et sorties d’un modèle',
  isModelReady: 'Ce modèle répondrait-il ?', isModelVersionReady: 'Ce modèle répondrait-il ?',
  getModelConfiguration: 'La configuration d’un modèle, à la façon de Triton', getModelVersionConfiguration: 'La configuration d’un modèle, à la façon de Triton',
  getModelStatistics: 'Ce qui a été compté d’un modèle depuis son démarrage', getModelVersionStatistics: 'Ce qui a été compté d’un modèle depuis son démarrage',
  infer: 'Des tenseurs ou des photos entrent, des tenseurs sortent', inferWithVersion: 'Des tenseurs ou des photos entrent, des tenseurs sortent',
  listRepository: 'Les modèles et leurs états', getRepository: 'Les modèles et leurs états',
  loadModel: 'Démarrer le processus d’un modèle avec ses fichiers d’aujourd’hui', unloadModel: 'Arrêter le processus d’un modèle',
  getStatusTensorFlow: 'L’état d’un modèle', getVersionStatusTensorFlow: 'L’état d’un modèle',
  getMetadataTensorFlow: 'Les entrées et sorties d’un modèle, à la façon de TensorFlow Serving',
  getVersionMetadataTensorFlow: 'Les entrées et sorties d’un modèle, à la façon de TensorFlow Serving',
  predictTensorFlow: 'Prédire, comme le fait TensorFlow Serving', predictVersionTensorFlow: 'Prédire, comme le fait TensorFlow Serving',
  isAlive: 'En vie ?', isReady: 'Prêt à répondre ?', isAliveByPath: 'En vie ? Comme /healthz, pour les nuages qui se réservent les chemins en z',
  isReadyByPath: 'Prêt à répondre ? Comme /readyz', getMetrics: 'Les mesures, pour Prometheus', getModelClasses: 'Ce que connaît un modèle',
  getModelMetrics: 'Les mesures du processus d’un modèle, pour Prometheus', getDescription: 'Cette description',
  createChatCompletion: 'Poursuivre une conversation', createCompletion: 'Poursuivre un texte', createEmbedding: 'Des textes en vecteurs',
  tokenize: 'Un texte en jetons', detokenize: 'Des jetons en texte', applyTemplate: 'Une conversation telle que le modèle la reçoit',
  listLanguageModels: 'Les modèles de langue qu’il y a',
};

const WORDS = {
  'The API': 'L’API', 'Back to the counter': 'Retour au guichet', Answering: 'Répondre', 'What is on a photo?': 'Que montre une photo ?',
  Models: 'Modèles', 'Which ones there are, and which one is yours.': 'Lesquels il y a, et lequel est le vôtre.',
  'As KServe, Triton and OpenVINO Model Server speak it.': 'Comme le parlent KServe, Triton et OpenVINO Model Server.',
  'The model is named in the body. Models that are not language models answer 400.': 'Le modèle est nommé dans le corps. Ceux qui ne sont pas des modèles de langue répondent 400.',
  'Health and metrics': 'Santé et mesures', Parameters: 'Paramètres', Body: 'Corps', Replies: 'Réponses', Send: 'Envoyer', 'the bytes': 'les octets', required: 'obligatoire',
  'A photo in, what it shows out. Every model is behind one entry; an error is always {"error": "one line for a person"}, and on OpenAI\'s paths OpenAI\'s object.':
    'Une photo entre, ce qu’elle montre sort. Tous les modèles ont la même entrée ; une erreur est toujours {"error": "une ligne, en anglais"}, et sur les chemins d’OpenAI l’objet d’OpenAI.',
};

// No-break spaces as French has them; the text itself is written with plain ones.
const spaced = (words) => words.replace(/ (?=[?;:!])/g, '\u00a0');

export const frenchGist = (operationId) => (GISTS[operationId] ? spaced(GISTS[operationId]) : null);
export const french = (words) => (WORDS[words] ? spaced(WORDS[words]) : null);
